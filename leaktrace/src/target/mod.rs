//! The traced process: what it is, what it maps, and the objects behind the mappings. Reads
//! /proc and files through the process's own root; changes nothing.

mod container;
mod debug_file;
mod elf;
mod ids;
mod limits;
mod linker;
mod links;
mod mapping;
mod mini_debug;
mod object;
mod perf_map;
mod process;
mod root;
mod runtime;
mod smaps;
mod symbols;
mod wanted;

pub use container::Container;
pub use ids::{processes, threads};
pub use limits::{Bound, BoundKind, MemoryUse};
pub use linker::{LINKER_STATE, LINKER_STATE_OFFSET, OBJECTS_CHANGED};
pub use links::{Door, Links};
pub use mapping::{FileId, Mapping, Mappings};
pub use object::{Object, ObjectError};
pub use perf_map::{PerfMapFile, PerfMapNews};
pub use process::{Process, TargetError, started_at};
pub use root::{LastLink, Root, RootError};
pub use runtime::Runtime;
pub use smaps::{Area, AreaKind};
pub use symbols::{Function, Section, Segments};
