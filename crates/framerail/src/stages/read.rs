//! The `read` stage.

use framerail_pipeline::{Registry, RegistryError};

pub(super) fn register(_registry: &mut Registry) -> Result<(), RegistryError> {
    Ok(())
}
