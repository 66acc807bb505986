use super::*;
use clap::CommandFactory;

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}
