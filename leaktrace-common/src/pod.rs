//! `aya::Pod` for the shared types: user space only.

#[cfg(feature = "user")]
mod user {
    use crate::{bucket, event, ledger, loss, mapping, process, stack, unwind};

    // SAFETY: all of these are #[repr(C)], have no padding that is not a field, and hold only
    // integers, so that every byte pattern is a value and every byte is initialised.
    unsafe impl aya::Pod for ledger::LiveKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for bucket::Bucket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ledger::LiveBlock {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ledger::SiteTotals {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ledger::SiteBirths {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ledger::PendingCall {}
    // SAFETY: as above.
    unsafe impl aya::Pod for process::ProcessState {}
    // SAFETY: as above.
    unsafe impl aya::Pod for process::Control {}
    // SAFETY: as above.
    unsafe impl aya::Pod for stack::StackRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for stack::DeepFrames {}
    // SAFETY: as above.
    unsafe impl aya::Pod for stack::BridgeKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for stack::Bridge {}
    // SAFETY: as above.
    unsafe impl aya::Pod for loss::LossTotals {}
    // SAFETY: as above.
    unsafe impl aya::Pod for event::Event {}
    // SAFETY: as above.
    unsafe impl aya::Pod for mapping::MappingTable {}
    // SAFETY: as above.
    unsafe impl aya::Pod for unwind::Chunk {}
    // SAFETY: as above.
    unsafe impl aya::Pod for unwind::RareRule {}
}
