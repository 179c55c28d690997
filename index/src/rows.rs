//! Values by content, in chunks that snapshots share: what a change copies is one chunk and the list of chunks.

use std::sync::Arc;

use crate::signal::{BankId, ContentId};

/// Rows of a chunk.
const CHUNK: usize = 256;

/// A content's value.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// Whose it is.
    pub content: ContentId,
    /// The bank that content lies in.
    pub bank: BankId,
    /// What is kept of it.
    pub value: T,
}

/// Rows in the order of their contents. Immutable.
pub struct Rows<T> {
    /// None is empty.
    chunks: Vec<Arc<Vec<Row<T>>>>,
    len: usize,
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Rows<T> {
    /// How many.
    pub fn len(&self) -> usize {
        self.len
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Row<T>> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The last row for which this holds, which must hold for all before it.
    pub fn last_where(&self, holds: impl Fn(&Row<T>) -> bool) -> Option<&Row<T>> {
        let chunk = self.chunks.partition_point(|chunk| chunk.first().is_some_and(&holds)).checked_sub(1)?;
        let rows = &self.chunks[chunk];
        rows.get(rows.partition_point(&holds).checked_sub(1)?)
    }

    /// With further rows, in order, of younger contents than all there are.
    #[must_use]
    pub fn with(&self, rows: &[Row<T>]) -> Self {
        let mut chunks = self.chunks.clone();
        let mut rest = rows;
        if let Some(last) = chunks.pop_if(|last| last.len() < CHUNK) {
            let (fits, after) = rest.split_at(rest.len().min(CHUNK - last.len()));
            chunks.push(Arc::new([&last[..], fits].concat()));
            rest = after;
        }
        chunks.extend(rest.chunks(CHUNK).map(|part| Arc::new(part.to_vec())));
        Self { chunks, len: self.len + rows.len() }
    }

    /// Without a content's row; beside it that row, if there was one.
    #[must_use]
    pub fn without(&self, content: ContentId) -> (Self, Option<Row<T>>) {
        let upto = |row: &Row<T>| row.content <= content;
        let Some(place) = self.chunks.partition_point(|chunk| chunk.first().is_some_and(upto)).checked_sub(1)
        else {
            return (self.clone(), None);
        };
        let Ok(at) = self.chunks[place].binary_search_by_key(&content, |row| row.content) else {
            return (self.clone(), None);
        };
        let mut chunks = self.chunks.clone();
        let mut rows = Vec::clone(&chunks[place]);
        let gone = rows.remove(at);
        if rows.is_empty() {
            chunks.remove(place);
        } else {
            chunks[place] = Arc::new(rows);
        }
        (Self { chunks, len: self.len - 1 }, Some(gone))
    }

    /// Without a bank's rows.
    #[must_use]
    pub fn without_bank(&self, bank: BankId) -> Self {
        let mut left = Self::default();
        for chunk in &self.chunks {
            if chunk.iter().all(|row| row.bank != bank) {
                left.len += chunk.len();
                left.chunks.push(chunk.clone());
                continue;
            }
            let rows: Vec<Row<T>> = chunk.iter().filter(|row| row.bank != bank).cloned().collect();
            left.len += rows.len();
            if !rows.is_empty() {
                left.chunks.push(Arc::new(rows));
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(content: u64) -> Row<u64> {
        Row { content: ContentId(content), bank: BankId((content % 3) as u32), value: content }
    }

    #[test]
    fn rows_do_what_a_sorted_list_does() {
        let (mut rows, mut model): (Rows<u64>, Vec<u64>) = (Rows::default(), Vec::new());
        let mut next = 0;
        for step in 0u64..400 {
            let young: Vec<u64> = (0..step % 7 * 13).map(|at| next + 2 * at).collect();
            next = young.last().map_or(next, |last| last + 2);
            rows = rows.with(&young.iter().map(|content| row(*content)).collect::<Vec<_>>());
            model.extend(young);
            for _ in 0..step % 5 {
                let gone = step * 7919 % (next + 3);
                let (left, was) = rows.without(ContentId(gone));
                assert_eq!(was.map(|row| row.content.0), model.contains(&gone).then_some(gone));
                rows = left;
                model.retain(|content| *content != gone);
            }
            if step % 97 == 96 {
                rows = rows.without_bank(BankId(1));
                model.retain(|content| content % 3 != 1);
            }
            assert_eq!(rows.len(), model.len());
            let last = rows.last_where(|row| row.content.0 <= step * 5);
            let expected = model.iter().rev().find(|content| **content <= step * 5);
            assert_eq!(last.map(|row| row.value), expected.copied());
        }
        assert!(rows.iter().map(|row| row.value).eq(model));
    }
}
