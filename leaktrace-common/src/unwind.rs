//! Unwind tables: how rules are packed into rows, how rows lie in memory, how they are searched,
//! and one step from a frame to its caller. Both sides run this; nothing here reads a process.
//!
//! Text is cut into blocks of 256 bytes. A block's rows lie in one chunk and are found through the
//! object's block index, which is an array of words in chunks of their own.

mod block;
mod memo;
mod row;
mod step;
mod unfinished;

pub use block::{BLOCK_BYTES, Block, CHUNK_BLOCKS, CHUNK_BYTES, CHUNK_ROWS, Chunk, find};
pub use memo::{Beginning, GROUP_WORDS, Memo, REACH_WORDS, TRAIL_WORDS, Trail};
pub use row::{MAX_RARE_RULES, RareBase, RareRule, Row, RowKind};
pub use step::{Registers, StackMemory, step, step_by_frame_pointer};
pub use unfinished::{SAVED_BYTES, SAVED_PAGES, Unfinished};
