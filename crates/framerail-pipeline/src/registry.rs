//! The stages that a pipeline text may name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{ConfigError, Options, StagePlan, StageSpec, nearest::nearest};

/// Makes stages of one kind. Implement it, or hand a closure to [`Registry::register_with`].
pub trait StageFactory: Send + Sync {
    /// What the stage says of itself. Asked once, when it is registered.
    fn spec(&self) -> StageSpec;

    /// Makes a stage from checked options. Cheap: files and models are opened when it links.
    ///
    /// # Errors
    /// When options contradict each other.
    fn configure(&self, options: &Options) -> Result<Box<dyn StagePlan>, ConfigError>;
}

/// Why a stage cannot be registered: a mistake in the program, not in a pipeline.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Its name is taken.
    #[error("a stage called `{0}` is registered already")]
    Duplicate(String),
    /// Its specification contradicts itself.
    #[error("the specification of stage `{stage}` is wrong: {problem}")]
    Spec {
        /// The stage.
        stage: String,
        /// What is wrong.
        problem: String,
    },
}

/// A registered stage.
#[derive(Clone)]
pub struct RegisteredStage {
    /// What it says of itself.
    pub spec: StageSpec,
    factory: Arc<dyn StageFactory>,
}

impl RegisteredStage {
    /// Makes a stage from checked options.
    ///
    /// # Errors
    /// When options contradict each other.
    pub fn configure(&self, options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
        self.factory.configure(options)
    }
}

/// The stages that a pipeline may name.
#[derive(Clone, Default)]
pub struct Registry {
    stages: BTreeMap<String, RegisteredStage>,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage.
    ///
    /// # Errors
    /// When its name is taken or its specification contradicts itself: a default out of range, an option twice.
    pub fn register(&mut self, factory: impl StageFactory + 'static) -> Result<(), RegistryError> {
        let spec = factory.spec();
        spec.validate().map_err(|problem| RegistryError::Spec { stage: spec.name.clone(), problem })?;
        if self.stages.contains_key(&spec.name) {
            return Err(RegistryError::Duplicate(spec.name));
        }
        self.stages.insert(spec.name.clone(), RegisteredStage { spec, factory: Arc::new(factory) });
        Ok(())
    }

    /// Adds a stage from its specification and a function that configures it.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub fn register_with<F>(&mut self, spec: StageSpec, configure: F) -> Result<(), RegistryError>
    where
        F: Fn(&Options) -> Result<Box<dyn StagePlan>, ConfigError> + Send + Sync + 'static,
    {
        self.register(FunctionFactory { spec, configure })
    }

    /// The stage of this name.
    pub fn get(&self, name: &str) -> Option<&RegisteredStage> {
        self.stages.get(name)
    }

    /// Every name, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stages.keys().map(String::as_str)
    }

    /// Every specification, by name in alphabetical order.
    pub fn specs(&self) -> impl Iterator<Item = &StageSpec> {
        self.stages.values().map(|stage| &stage.spec)
    }

    /// The name most like this one, when there is one alike enough.
    pub fn suggest(&self, name: &str) -> Option<&str> {
        nearest(name, self.names())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

struct FunctionFactory<F> {
    spec: StageSpec,
    configure: F,
}

impl<F> StageFactory for FunctionFactory<F>
where
    F: Fn(&Options) -> Result<Box<dyn StagePlan>, ConfigError> + Send + Sync,
{
    fn spec(&self) -> StageSpec {
        self.spec.clone()
    }

    fn configure(&self, options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
        (self.configure)(options)
    }
}
