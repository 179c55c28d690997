//! From a decision to a finished CyberTip: what the platform adds (`info`), what the report says (`build`, `thread`), how
//! far each filing is (`filing`), and what was sent and received for it (`record`).

pub mod build;
mod fields;
pub mod filing;
pub mod info;
pub mod organisation;
pub mod record;
pub mod thread;
mod time;
