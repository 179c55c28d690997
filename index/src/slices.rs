//! Searches that end early: whoever asks says after each part whether it goes on.

/// Says whether a search goes on to further queries; asked often enough that it need not be quick.
pub type GoesOn<'g> = &'g dyn Fn() -> bool;

/// Calls `search` with each query as long as `goes_on` says so; returns how many were searched, one at least.
pub fn one_by_one<H>(queries: &[H], goes_on: GoesOn<'_>, mut search: impl FnMut(usize, &[H])) -> usize {
    for (at, query) in queries.iter().enumerate() {
        search(at, std::slice::from_ref(query));
        if !goes_on() {
            return at + 1;
        }
    }
    queries.len()
}
