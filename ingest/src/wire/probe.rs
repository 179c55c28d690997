//! What a fuzzer and the corpus test feed: a stream of bytes through framing, verification and every field.
//!
//! Reading is all that happens; the only way to fail is to panic or to take more than the bytes hold.

use super::frame::{PREFIX, Split, split};
use super::{Reply, RequestView, parse};

const LENGTH_MAX: usize = 1 << 20;
const HASHES_MAX: usize = 4096;

/// A client's bytes, as a server reads them.
pub fn requests(bytes: &[u8]) {
    each_message(bytes, |message| {
        let Ok((_, request)) = parse(message, HASHES_MAX) else { return };
        let (query, submit) = match request {
            RequestView::Hello { token, .. } => {
                assert!(token.len() <= message.len());
                return;
            }
            RequestView::Lookup(query) => (query, None),
            RequestView::Submit(submit) => (submit.query, Some(submit)),
        };
        assert!((1..=HASHES_MAX).contains(&query.len()));
        let (mut pdq, mut digests) = (Vec::new(), Vec::new());
        query.append_pdq(&mut pdq);
        query.copy_digests(&mut digests);
        for hash in 0..query.len() {
            query.upload_id(hash);
            if let Some(submit) = &submit {
                submit.context(hash as u32);
            }
        }
    });
}

/// A server's bytes, as a client reads them.
pub fn replies(bytes: &[u8]) {
    each_message(bytes, |message| {
        // An answer that does not read is an error value; what reads is owned.
        let _ = Reply::decode(message);
    });
}

fn each_message(mut bytes: &[u8], visit: impl Fn(&[u8])) {
    while let Split::Frame { end } = split(bytes, LENGTH_MAX) {
        visit(&bytes[PREFIX..end]);
        bytes = &bytes[end..];
    }
    visit(bytes); // and the rest as if it were a message
}
