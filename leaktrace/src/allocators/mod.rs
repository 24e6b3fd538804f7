//! Which functions allocate, with which signature, in which object.
