//! The kernel side: load, attach, events, readout. The only folder that imports aya.
