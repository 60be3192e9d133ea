//! Memory-mapped maps: reading and writing them at memory speed, without a system call an entry.
//!
//! Owns: every access to memory that the kernel programs share with this process. Must not know what the entries mean.
//! All loads and stores are atomic words: another CPU may be writing what is read here, and reading what is written.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use aya::maps::{MapData, MapInfo};
use bytemuck::Pod;
use memmap2::{MmapOptions, MmapRaw};

use super::error::DataplaneError;

/// `BPF_F_MMAPABLE`
pub(super) const MMAPABLE: u32 = aya_obj::generated::BPF_F_MMAPABLE;

/// A map's memory as an array of `T`, for reading. It counts as resident memory of this process as far as it was touched:
/// large tables are mapped only while needed.
#[derive(Debug)]
pub(super) struct View<T> {
    memory: MmapRaw,
    /// Bytes from one entry to the next.
    stride: usize,
    len: usize,
    _entries: PhantomData<T>,
}

impl<T: Pod> View<T> {
    /// Words of 32 bits are what all types in maps are made of; the accessors below rely on it.
    const WHOLE_WORDS: () =
        assert!(size_of::<T>().is_multiple_of(4) && align_of::<T>() <= 8 && size_of::<T>() > 0);

    /// Maps `map` for reading. A map's value may hold several `T` (a bucket of flow entries).
    pub(super) fn open(map: &MapData, name: &str) -> Result<Self, DataplaneError> {
        Self::new(map, name, |options, fd| options.map_raw_read_only(fd))
    }

    fn new(
        map: &MapData,
        name: &str,
        mmap: impl FnOnce(&MmapOptions, i32) -> io::Result<MmapRaw>,
    ) -> Result<Self, DataplaneError> {
        const { Self::WHOLE_WORDS };
        let info = map.info().map_err(DataplaneError::map(name))?;
        let shape =
            Shape::of::<T>(&info).map_err(|why| DataplaneError::Refused(format!("map {name}: {why}")))?;
        let memory = mmap(MmapOptions::new().len(shape.bytes), map.fd().as_fd().as_raw_fd())
            .map_err(DataplaneError::io(format!("mapping map {name} into memory")))?;
        Ok(Self {
            memory,
            stride: shape.stride,
            len: shape.len,
            _entries: PhantomData,
        })
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The entry at `index`, word by word: each word is as some writer stored it, the entry as a whole only as far as the
    /// writers' protocol promises.
    pub(super) fn get(&self, index: usize) -> Option<T> {
        let base = self.base(index)?;
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        let (wide, rest) = bytes.split_at_mut(size_of::<T>() / 8 * 8);
        for (i, chunk) in wide.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.word64(base + 8 * i).load(Ordering::Relaxed).to_ne_bytes());
        }
        if !rest.is_empty() {
            let word = self.word32(base + wide.len()).load(Ordering::Relaxed);
            rest.copy_from_slice(&word.to_ne_bytes());
        }
        Some(value)
    }

    /// The 32-bit word at byte `offset` of an entry, for sequence words.
    pub(super) fn field32(&self, index: usize, offset: usize) -> Option<&AtomicU32> {
        let base = self.base(index)?;
        (offset.is_multiple_of(4) && offset < size_of::<T>()).then(|| self.word32(base + offset))
    }

    /// All entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.len).filter_map(|index| self.get(index))
    }

    /// Byte offset of an entry that exists.
    fn base(&self, index: usize) -> Option<usize> {
        (index < self.len).then(|| index * self.stride)
    }

    /// The aligned 64-bit word at a byte offset below the mapping's end.
    fn word64(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at.is_multiple_of(8) && at + 8 <= self.memory.len());
        // SAFETY: `at` comes from `base` plus a word inside the entry: entries start at multiples of 8 (`Shape`), so the
        // word is aligned (the mapping is page-aligned) and inside the mapping, which lives as long as `self` and cannot
        // shrink (a BPF array has one size for life). Everyone on this side uses atomics for it, and a mapping of a BPF
        // map is memory any bytes are valid in.
        unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().add(at).cast()) }
    }

    /// The same for a 32-bit word.
    fn word32(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at.is_multiple_of(4) && at + 4 <= self.memory.len());
        // SAFETY: as for `word64`, with alignment 4. A word may be read here as 32 bits and elsewhere as half of 64: on the
        // architectures xvip runs on, both are single accesses to the same cache line.
        unsafe { AtomicU32::from_ptr(self.memory.as_mut_ptr().add(at).cast()) }
    }
}

#[cfg(test)]
impl<T: Pod> Mapped<T> {
    /// Memory of this process laid out as a map of `len` entries, all zero.
    pub(super) fn anonymous(len: usize) -> Self {
        let stride = size_of::<T>().next_multiple_of(8);
        let memory = memmap2::MmapMut::map_anon(len * stride).unwrap().into();
        Self {
            view: View {
                memory,
                stride,
                len,
                _entries: PhantomData,
            },
        }
    }

    /// Gives up writing.
    pub(super) fn into_view(self) -> View<T> {
        self.view
    }
}

/// A map's memory for reading and writing. One process writes at a time (see [`super::pins::Lock`]).
#[derive(Debug)]
pub(super) struct Mapped<T> {
    view: View<T>,
}

impl<T: Pod> Mapped<T> {
    /// Maps `map` for reading and writing.
    pub(super) fn open(map: &MapData, name: &str) -> Result<Self, DataplaneError> {
        let view = View::new(map, name, |options, fd| options.map_raw(fd))?;
        Ok(Self { view })
    }

    /// The same memory, for reading.
    pub(super) fn view(&self) -> &View<T> {
        &self.view
    }

    /// Stores an entry word by word. Whatever this thread stores afterwards, in this map or another or by a system call, is
    /// seen only together with it: that is how a switch follows the data it switches to.
    ///
    /// Returns whether the entry exists.
    #[must_use]
    pub(super) fn set(&self, index: usize, value: &T) -> bool {
        let Some(base) = self.view.base(index) else {
            return false;
        };
        let (wide, rest) = bytemuck::bytes_of(value).split_at(size_of::<T>() / 8 * 8);
        for (i, chunk) in wide.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(std::array::from_fn(|b| chunk[b]));
            self.view.word64(base + 8 * i).store(word, Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let word = u32::from_ne_bytes(std::array::from_fn(|b| rest[b]));
            self.view.word32(base + wide.len()).store(word, Ordering::Relaxed);
        }
        fence(Ordering::Release);
        true
    }
}

impl Mapped<u64> {
    /// The word itself, for bits set and cleared one by one.
    pub(super) fn word(&self, index: usize) -> Option<&AtomicU64> {
        self.view.base(index).map(|base| self.view.word64(base))
    }
}

/// How a map's memory is divided.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    bytes: usize,
    stride: usize,
    len: usize,
}

impl Shape {
    fn of<T>(info: &MapInfo) -> Result<Self, String> {
        if info.map_flags() & MMAPABLE == 0 {
            return Err("not made for mapping into memory (BPF_F_MMAPABLE)".to_owned());
        }
        Self::divide(
            info.max_entries() as usize,
            info.value_size() as usize,
            size_of::<T>(),
        )
    }

    /// The kernel pads array values to 8 bytes. A value is one entry, or whole entries side by side.
    fn divide(max_entries: usize, value_size: usize, entry: usize) -> Result<Self, String> {
        let padded = value_size.next_multiple_of(8);
        let each = value_size / entry;
        if each == 0 || each * entry != value_size || (each > 1 && !entry.is_multiple_of(8)) {
            return Err(format!(
                "its values have {value_size} bytes, entries here have {entry}"
            ));
        }
        Ok(Self {
            bytes: max_entries * padded,
            stride: if each > 1 { entry } else { padded },
            len: max_entries * each,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_stored_and_none_beyond_the_end() {
        #[repr(C)]
        #[derive(Clone, Copy, PartialEq, Debug, Pod, bytemuck::Zeroable)]
        struct Odd([u32; 3]);
        let map = Mapped::<Odd>::anonymous(2);
        assert!(map.set(1, &Odd([1, 2, 3])));
        assert!(map.set(0, &Odd([4, 5, 6])));
        assert!(!map.set(2, &Odd([7; 3])));
        assert_eq!(
            map.view().iter().collect::<Vec<_>>(),
            [Odd([4, 5, 6]), Odd([1, 2, 3])]
        );
        assert_eq!(map.view().get(2), None);
        let field = map.view().field32(1, 8).unwrap();
        assert_eq!(field.load(Ordering::Relaxed), 3);
        assert!(map.view().field32(1, 12).is_none(), "outside the entry");
        assert!(map.view().field32(1, 2).is_none(), "not aligned");
    }

    #[test]
    fn memory_is_divided_as_the_kernel_lays_out_arrays() {
        let shape = |bytes, stride, len| Ok(Shape { bytes, stride, len });
        assert_eq!(Shape::divide(10, 4, 4), shape(80, 8, 10), "a u32 takes 8 bytes");
        assert_eq!(Shape::divide(3, 64, 64), shape(192, 64, 3));
        assert_eq!(
            Shape::divide(2, 256, 64),
            shape(512, 64, 8),
            "four entries a bucket"
        );
        assert_eq!(Shape::divide(2, 104, 104), shape(208, 104, 2));
        assert!(Shape::divide(2, 60, 64).is_err(), "smaller than an entry");
        assert!(
            Shape::divide(2, 100, 64).is_err(),
            "not a whole number of entries"
        );
    }
}
