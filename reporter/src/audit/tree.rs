//! The arithmetic of a Merkle tree as RFC 6962 has it (section 2.1), and the two proofs that it gives (RFC 9162, sections
//! 2.1.3 and 2.1.4): any program that knows the one checks the other. A branch is named by its level and its place there:
//! it has the `2^level` leaves from `place * 2^level` on.

use sha2::{Digest, Sha256};

use super::Hex;

/// The hash of a leaf, a branch or a whole tree.
pub type TreeHash = Hex<32>;

/// A leaf with these bytes.
pub(super) fn leaf(bytes: &[u8]) -> TreeHash {
    Hex(Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
}

/// What two branches are together.
pub(super) fn join(left: &TreeHash, right: &TreeHash) -> TreeHash {
    Hex(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Leaves of the left one of the two branches that a tree of `leaves` (two or more) has.
pub(super) fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// A complete branch; its place follows from its last leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub level: u32,
    pub hash: TreeHash,
}

/// A tree that grows to the right: the complete branches that it is made of, the largest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Growing {
    leaves: u64,
    branches: Vec<TreeHash>,
}

impl Growing {
    /// Of so many leaves, whose branches `branch` knows by level and place.
    pub fn of<E>(leaves: u64, branch: impl Fn(u32, u64) -> Result<TreeHash, E>) -> Result<Self, E> {
        let levels = (0..u64::BITS).rev().filter(|level| leaves >> level & 1 == 1);
        let branches = levels.map(|level| branch(level, (leaves >> level) - 1)).collect::<Result<_, _>>()?;
        Ok(Self { leaves, branches })
    }

    /// How many leaves it has.
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Adds a leaf; the branches that are complete with it, of levels 1 and more, the smallest first.
    pub fn push(&mut self, leaf: TreeHash) -> Vec<Branch> {
        let (at, mut hash) = (self.leaves, leaf);
        let mut complete = Vec::new();
        for level in 1..=at.trailing_ones() {
            if let Some(left) = self.branches.pop() {
                hash = join(&left, &hash);
            }
            complete.push(Branch { level, hash });
        }
        self.branches.push(hash);
        self.leaves += 1;
        complete
    }

    /// The hash of the whole.
    pub fn root(&self) -> TreeHash {
        let whole = self.branches.iter().copied().rev().reduce(|right, left| join(&left, &right));
        whole.unwrap_or_else(|| Hex(Sha256::digest(b"").into()))
    }
}

/// The way from a branch up to the whole tree, by the branches beside it.
struct Way {
    at: u64,
    last: u64,
}

impl Way {
    /// Goes up to where something stands beside it: whether that stands on the left. None at the top.
    fn up(&mut self) -> Option<bool> {
        if self.is_top() {
            return None;
        }
        let is_left = self.at & 1 == 1 || self.at == self.last;
        // The last one may be alone for some levels, until something stands on its left.
        let alone = if is_left { self.at.trailing_zeros() } else { 0 };
        (self.at, self.last) = (self.at >> alone >> 1, self.last >> alone >> 1);
        Some(is_left)
    }

    fn is_top(&self) -> bool {
        self.last == 0
    }
}

/// The tree that has this leaf in this place (from 0) among so many, if the path is a proof of it.
pub(super) fn root_by_inclusion(
    leaf: TreeHash,
    place: u64,
    leaves: u64,
    path: &[TreeHash],
) -> Option<TreeHash> {
    let mut way = Way { at: place, last: leaves.checked_sub(1).filter(|last| place <= *last)? };
    let mut hash = leaf;
    for beside in path {
        hash = if way.up()? { join(beside, &hash) } else { join(&hash, beside) };
    }
    way.is_top().then_some(hash)
}

/// The trees of `from` and of `to` leaves (`1 <= from < to`), if the path proves that the later one begins with the earlier,
/// whose hash is `old`.
pub(super) fn roots_by_consistency(
    old: TreeHash,
    from: u64,
    to: u64,
    path: &[TreeHash],
) -> Option<(TreeHash, TreeHash)> {
    if from == 0 || from >= to {
        return None;
    }
    // An earlier tree that is one complete branch is the first step of its own proof.
    let first = from.is_power_of_two().then_some(&old);
    let mut steps = first.into_iter().chain(path);
    let complete = (from - 1).trailing_ones();
    let mut way = Way { at: (from - 1) >> complete, last: (to - 1) >> complete };
    let start = *steps.next()?;
    let (mut earlier, mut later) = (start, start);
    for beside in steps {
        if way.up()? {
            earlier = join(beside, &earlier);
            later = join(beside, &later);
        } else {
            later = join(&later, beside);
        }
    }
    way.is_top().then_some((earlier, later))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word.
    fn whole(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [] => Hex(Sha256::digest(b"").into()),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
                join(&whole(left), &whole(right))
            }
        }
    }

    /// The definition of the path to a leaf, word by word.
    fn path(at: usize, leaves: &[TreeHash]) -> Vec<TreeHash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
        let (mut path, beside) = match at < left.len() {
            true => (path(at, left), whole(right)),
            false => (path(at - left.len(), right), whole(left)),
        };
        path.push(beside);
        path
    }

    /// The definition of the proof that a tree begins with its first leaves, word by word.
    fn proof(first: usize, leaves: &[TreeHash], complete: bool) -> Vec<TreeHash> {
        if first == leaves.len() {
            return if complete { Vec::new() } else { vec![whole(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len() as u64) as usize);
        let (mut path, beside) = match first <= left.len() {
            true => (proof(first, left, complete), whole(right)),
            false => (proof(first - left.len(), right, false), whole(left)),
        };
        path.push(beside);
        path
    }

    fn leaves(count: usize) -> Vec<TreeHash> {
        (0..count).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    #[test]
    fn the_trees_that_others_publish_have_their_hashes() {
        // The test vectors of Certificate Transparency's own implementations.
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Growing::default();
        for (input, root) in inputs.into_iter().zip(roots) {
            tree.push(leaf(input));
            assert_eq!(tree.root().to_string(), root);
        }
    }

    #[test]
    fn a_tree_that_grows_is_the_one_that_is_defined() {
        let all = leaves(130);
        let mut tree = Growing::default();
        for count in 0..all.len() {
            assert_eq!(tree.root(), whole(&all[..count]), "{count} leaves");
            let branch = |level: u32, place: u64| {
                let from = (place << level) as usize;
                Ok::<_, ()>(whole(&all[from..from + (1 << level)]))
            };
            assert_eq!(Growing::of(count as u64, branch).unwrap().branches, tree.branches);
            for branch in tree.push(all[count]) {
                assert_eq!(branch.hash, whole(&all[count + 1 - (1 << branch.level)..=count]));
            }
        }
    }

    #[test]
    fn proofs_of_every_size_hold_and_nothing_else_does() {
        let all = leaves(40);
        for to in 1..=all.len() {
            let root = whole(&all[..to]);
            for at in 0..to {
                let path = path(at, &all[..to]);
                let given = |at: usize, leaf: TreeHash, path: &[TreeHash]| {
                    root_by_inclusion(leaf, at as u64, to as u64, path) == Some(root)
                };
                assert!(given(at, all[at], &path));
                assert!(to == 1 || !given(at, all[(at + 1) % to], &path), "another leaf");
                (0..to).filter(|other| *other != at).for_each(|other| assert!(!given(other, all[at], &path)));
                wrong(&path).for_each(|path| assert!(!given(at, all[at], &path)));
            }
            for from in 1..to {
                let (old, path) = (whole(&all[..from]), proof(from, &all[..to], true));
                let given = |old: TreeHash, from: usize, path: &[TreeHash]| {
                    roots_by_consistency(old, from as u64, to as u64, path) == Some((old, root))
                };
                assert!(given(old, from, &path), "{from} to {to}");
                assert!(!given(leaf(b"another"), from, &path));
                wrong(&path).for_each(|path| assert!(!given(old, from, &path)));
            }
        }
        assert_eq!(root_by_inclusion(all[0], 0, 0, &[]), None);
        assert_eq!(root_by_inclusion(all[0], 5, 5, &all), None);
        for (from, to) in [(0, 5), (5, 5), (6, 5), (5, 0)] {
            assert_eq!(roots_by_consistency(all[0], from, to, &all), None);
        }
        assert_eq!(roots_by_consistency(all[0], 3, 5, &[]), None);
        let (most, path) = (u64::MAX, vec![all[0]; 64]);
        for at in [0, 1, 1 << 63, most - 1] {
            root_by_inclusion(all[0], at, most, &path);
            roots_by_consistency(all[0], at, most, &path); // no shift overflows
        }
    }

    /// Paths that differ in one thing.
    fn wrong(path: &[TreeHash]) -> impl Iterator<Item = Vec<TreeHash>> {
        let changed = (0..path.len()).map(move |at| {
            let mut path = path.to_vec();
            path[at].0[at % 32] ^= 1;
            path
        });
        let longer = [path, &[leaf(b"more")]].concat();
        let shorter = path.split_last().map(|(_, rest)| rest.to_vec());
        changed.chain([longer]).chain(shorter)
    }
}
