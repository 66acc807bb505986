//! Command line: clap types, a file per verb, printer. The only place that prints.
