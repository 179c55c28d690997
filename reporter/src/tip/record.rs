//! What was sent and received for a filing: the exact bytes, hashed, in order, never changed.
