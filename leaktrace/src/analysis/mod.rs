//! Snapshots → what grows; pure.
