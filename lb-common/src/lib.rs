//! Layouts and pure algorithms that the kernel programs and user space share.
#![no_std]
