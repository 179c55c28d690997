//! For whom is reported: an organisation's settings, and its credentials with their environment.
