//! The cache index service.
