//! What a report says, built of the decision, the settings, the items and what the platform added. A pure function.
