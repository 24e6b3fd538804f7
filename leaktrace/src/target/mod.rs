//! The traced process: what it is, what it maps, and the objects behind the mappings. Reads
//! /proc and files through the process's own root; changes nothing.

mod mapping;

pub use mapping::{FileId, Mapping, Mappings};
