//! Which sources an argument of `read` names.
