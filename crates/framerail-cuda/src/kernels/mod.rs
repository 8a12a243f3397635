//! Kernels and their launchers.
