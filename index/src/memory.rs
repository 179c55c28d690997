//! Big arrays on huge pages: random reads of a table cost half as much when they miss fewer TLB entries.
//!
//! An array is mapped zeroed, filled by whoever builds it, and read-only from then on. Where the kernel has
//! no huge page to give, it gives small ones; nothing else changes, and [`Faults`](crate::Faults) counts where it refused.

#![allow(unsafe_code)] // memory mapping

use std::alloc::{Layout, handle_alloc_error};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use bytemuck::Pod;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

const HUGE: usize = 2 << 20;

/// A fixed array of `T`, zeroed when made.
pub struct Huge<T: Pod> {
    data: NonNull<T>,
    len: usize,
    /// What was mapped: start and bytes. Nothing for an empty array.
    mapping: Option<(NonNull<u8>, usize)>,
}

// SAFETY: it owns its memory like a Vec does, and `T: Pod` is plain data.
unsafe impl<T: Pod + Send> Send for Huge<T> {}
// SAFETY: as above; shared access only reads.
unsafe impl<T: Pod + Sync> Sync for Huge<T> {}

impl<T: Pod> Huge<T> {
    /// Maps room for `len` values. The only error is that there is no memory.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        if bytes == 0 {
            return Ok(Self { data: NonNull::dangling(), len, mapping: None });
        }
        let mapped = bytes + HUGE; // room to begin at a huge page
        // SAFETY: a fresh private mapping, placed by the kernel, aliases nothing.
        let start = unsafe {
            mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let aligned = start.map_addr(|at| at.next_multiple_of(HUGE));
        // SAFETY: `aligned .. aligned + bytes` lies in the mapping made above, which is `HUGE` longer.
        // Refused, the pages are small.
        if unsafe { madvise(aligned, bytes, Advice::LinuxHugepage) }.is_err() {
            crate::faults::small_pages();
        }
        let mapping = NonNull::new(start.cast::<u8>()).map(|start| (start, mapped));
        let data = NonNull::new(aligned.cast::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { data, len, mapping })
    }

    /// The same where being without that memory would be the end anyway, as for a `Vec`.
    pub fn of(len: usize) -> Self {
        Self::zeroed(len)
            .unwrap_or_else(|_| handle_alloc_error(Layout::array::<T>(len).unwrap_or(Layout::new::<T>())))
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Pod> Deref for Huge<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` values lie there, aligned to a huge page (dangling but aligned for an empty one),
        // zeroed or written since, and any bytes are a `T: Pod`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl<T: Pod> DerefMut for Huge<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl<T: Pod> Drop for Huge<T> {
    fn drop(&mut self) {
        if let Some((start, bytes)) = self.mapping {
            // SAFETY: this is the whole mapping `zeroed` made, and no borrow of it outlives `self`.
            // An error would mean it is not mapped, so there is nothing to give back.
            let _ = unsafe { munmap(start.as_ptr().cast(), bytes) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_zeroed_aligned_and_writable() {
        let mut array = Huge::<u64>::zeroed(300_000).unwrap();
        assert_eq!(array.as_ptr() as usize % HUGE, 0);
        assert!(array.iter().all(|value| *value == 0));
        array[299_999] = 7;
        assert_eq!(array.iter().sum::<u64>(), 7);
        assert!(Huge::<u64>::zeroed(0).unwrap().is_empty());
        assert!(Huge::<u64>::zeroed(usize::MAX).is_err());
    }
}
