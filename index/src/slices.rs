//! Searches in slices: whoever asks says after each part whether the search goes on.

/// Says whether a search goes on; asked often enough that it need not be quick.
pub type GoesOn<'g> = &'g dyn Fn() -> bool;

/// Hashes that are read flat before the search asks whether it goes on: tens of microseconds, some hundred where all match.
const READ_UNASKED: usize = 1 << 13;

/// What of a search is done at once.
#[derive(Clone, Copy)]
pub struct Stretch<'g> {
    /// How much was read for the first query by the search that was interrupted in it; 0 if none was.
    pub from: usize,
    /// Says whether the search goes on.
    pub goes_on: GoesOn<'g>,
}

/// How far a batch of queries came in one set of hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Queries, from the first, that were searched whole.
    pub whole: usize,
    /// How much was read for the next one, if it was interrupted: [`Stretch::from`] of the search that goes on. Without it the next one
    /// starts over, and what it found is dropped.
    pub read: Option<usize>,
}

impl Reached {
    /// So many queries were searched whole.
    pub fn whole(queries: usize) -> Self {
        Self { whole: queries, read: None }
    }

    /// The query behind so many whole ones was interrupted.
    pub fn within(query: usize, read: usize) -> Self {
        Self { whole: query, read: Some(read) }
    }
}

/// Reads all hashes for each of so many queries, block by block. Calls `read` with the number of the query, the place of the
/// first hash and the hashes.
pub fn read_all<H>(
    hashes: &[H],
    queries: usize,
    stretch: Stretch<'_>,
    mut read: impl FnMut(usize, usize, &[H]),
) -> Reached {
    let mut from = stretch.from;
    for query in 0..queries {
        while from < hashes.len() {
            let end = hashes.len().min(from + READ_UNASKED);
            read(query, from, &hashes[from..end]);
            from = end;
            if !(stretch.goes_on)() {
                let is_whole = from == hashes.len();
                return if is_whole { Reached::whole(query + 1) } else { Reached::within(query, from) };
            }
        }
        from = 0;
    }
    Reached::whole(queries)
}
