//! Report → bytes.
