//! Reading what NCMEC answers: bounded, in either charset, without DTD or entities; by names of children, not by root.
