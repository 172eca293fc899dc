//! Placeholder header, replaced by the module's first slice.
