//! A compact table of NCMEC's schema, made from specs/cybertipline.md 1.6 and 1.7, and a validator that goes by it.
