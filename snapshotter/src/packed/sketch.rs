//! What the files of a layer are called and how long they are, in a few numbers: enough to tell whether another layer is likely to
//! hold much of the same, before anything of either is read.
//!
//! A file is so many elements as it has steps of [`STEP`] bytes, so that long ones count for more. Each element has a number that
//! looks random. They fall into bins, and of each bin the smallest is kept (minwise hashing in one pass). Where two layers are
//! alike, so are these: of the bins with elements as many are equal, on average, as of all elements are in both.

/// How many numbers a sketch has.
const BINS: usize = 64;

/// The length of a part of a file that counts as one, in bytes, and how many of a file count.
const STEP: u64 = 64 << 10;
const MOST_STEPS: u64 = 1 << 14;

/// How many elements count.
const MOST_ELEMENTS: u64 = 1 << 23;

/// A bin into which nothing fell.
const EMPTY: u32 = u32::MAX;

/// The sketch of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sketch(Box<[u32; BINS]>);

impl Sketch {
    /// Of files with these names, without their directories, and lengths.
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = (&'a [u8], u64)>) -> Self {
        let mut bins = Box::new([EMPTY; BINS]);
        let mut left = MOST_ELEMENTS;
        for (name, size) in files.into_iter().filter(|(_, size)| *size > 0) {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&size.to_le_bytes()).update(name);
            let hash = hasher.finalize();
            let first = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let steps = (size / STEP + 1).min(MOST_STEPS).min(left);
            left -= steps;
            for step in 0..steps {
                let element = mixed(first.wrapping_add(step));
                let bin = &mut bins[element as usize % BINS];
                *bin = (*bin).min((element >> 32) as u32);
            }
        }
        Self(bins)
    }

    /// How much of both is in both, by an estimate between 0 and 1: two numbers in three of a layer that holds half of another one of
    /// its length are different.
    pub(crate) fn likeness(&self, other: &Self) -> f64 {
        let bins = || self.0.iter().zip(other.0.iter()).filter(|(one, other)| (**one).min(**other) != EMPTY);
        let equal = bins().filter(|(one, other)| one == other).count();
        equal as f64 / bins().count().max(1) as f64
    }

    /// As it is kept.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|bin| bin.to_le_bytes()).collect()
    }

    /// Reads one; `None` when it is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (bins, []) = bytes.as_chunks::<4>() else { return None };
        let bins: Vec<u32> = bins.iter().map(|bin| u32::from_le_bytes(*bin)).collect();
        Some(Self(Box::new(bins.try_into().ok()?)))
    }
}

/// A number that looks random, and is another one for each other number (the finisher of SplitMix64).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(files: std::ops::Range<u32>, size: u64) -> Sketch {
        let names: Vec<String> = files.map(|number| number.to_string()).collect();
        Sketch::of(names.iter().map(|name| (name.as_bytes(), size)))
    }

    #[test]
    fn what_is_alike_is_found_to_be() {
        let one = sketch(0..3000, 100);
        assert_eq!(one.likeness(&one), 1.0);
        for (other, least, most) in [
            (sketch(10..3000, 100), 0.9, 1.0),
            (sketch(1500..4500, 100), 0.15, 0.5),
            (sketch(3000..6000, 100), 0.0, 0.0),
            (sketch(0..3000, 101), 0.0, 0.0),
        ] {
            let likeness = one.likeness(&other);
            assert!((least..=most).contains(&likeness), "{likeness}, expected {least} to {most}");
        }
    }

    #[test]
    fn long_files_count_for_more() {
        let many = (0..100).map(|_| (&b"small"[..], 1));
        let with_long = |name: &'static [u8]| Sketch::of(many.clone().chain([(name, 500 * STEP)]));
        assert!(with_long(b"a").likeness(&with_long(b"a")) > 0.99);
        assert!(with_long(b"a").likeness(&with_long(b"b")) < 0.1);
    }

    #[test]
    fn nothing_is_like_nothing() {
        let empty = Sketch::of([(&b"empty"[..], 0)]);
        assert_eq!(empty.likeness(&empty), 0.0);
        assert_eq!(Sketch::of([(&b"huge"[..], u64::MAX)]).likeness(&empty), 0.0);
    }

    #[test]
    fn a_sketch_is_read_as_it_was_written() {
        let one = sketch(0..20, 1);
        assert_eq!(Sketch::read(&one.to_bytes()), Some(one.clone()));
        assert_eq!(Sketch::read(&one.to_bytes()[1..]), None);
        assert_eq!(Sketch::read(b""), None);
    }
}
