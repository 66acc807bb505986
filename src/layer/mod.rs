//! Layers: decompress, tar -> store objects and index entries, limits, hostile input. No HTTP.
