//! Limits that NCMEC documents and its schema does not have: what breaks them is told at review time, or moved.
