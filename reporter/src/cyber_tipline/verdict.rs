//! What an answer of NCMEC, or none, means for a report that is being filed.
