//! The stages available to a pipeline text.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{ConfigError, Options, StagePlan, StageSpec, nearest::nearest};

/// Creates stages of one type. Implement it, or pass a closure to [`Registry::register_with`].
pub trait StageFactory: Send + Sync {
    /// The specification of the stage. Called once, on registration.
    fn spec(&self) -> StageSpec;

    /// Creates a stage from checked options. Must be cheap: files and models are opened when it links.
    ///
    /// # Errors
    /// When options contradict each other.
    fn configure(&self, options: &Options) -> Result<Box<dyn StagePlan>, ConfigError>;
}

/// Why a stage cannot be registered: an error in the program, not in a pipeline.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name is already registered.
    #[error("a stage called `{0}` is registered already")]
    Duplicate(String),
    /// The specification is inconsistent.
    #[error("the specification of stage `{stage}` is wrong: {problem}")]
    Spec {
        /// The stage.
        stage: String,
        /// The inconsistency.
        problem: String,
    },
}

/// A registered stage.
#[derive(Clone)]
pub struct RegisteredStage {
    /// Its specification.
    pub spec: StageSpec,
    factory: Arc<dyn StageFactory>,
}

impl RegisteredStage {
    /// Creates a stage from checked options.
    ///
    /// # Errors
    /// When options contradict each other.
    pub fn configure(&self, options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
        self.factory.configure(options)
    }
}

/// The stages available to pipelines.
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
    /// When its name is taken or its specification is inconsistent, for example a default out of range or a duplicate option.
    pub fn register(&mut self, factory: impl StageFactory + 'static) -> Result<(), RegistryError> {
        let spec = factory.spec();
        spec.validate().map_err(|problem| RegistryError::Spec { stage: spec.name.clone(), problem })?;
        if self.stages.contains_key(&spec.name) {
            return Err(RegistryError::Duplicate(spec.name));
        }
        self.stages.insert(spec.name.clone(), RegisteredStage { spec, factory: Arc::new(factory) });
        Ok(())
    }

    /// Adds a stage from its specification and a function that creates it.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub fn register_with<F>(&mut self, spec: StageSpec, configure: F) -> Result<(), RegistryError>
    where
        F: Fn(&Options) -> Result<Box<dyn StagePlan>, ConfigError> + Send + Sync + 'static,
    {
        self.register(FunctionFactory { spec, configure })
    }

    /// The stage with this name.
    pub fn get(&self, name: &str) -> Option<&RegisteredStage> {
        self.stages.get(name)
    }

    /// All names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.stages.keys().map(String::as_str)
    }

    /// All specifications, in alphabetical order of their names.
    pub fn specs(&self) -> impl Iterator<Item = &StageSpec> {
        self.stages.values().map(|stage| &stage.spec)
    }

    /// The stage that other programs call `name`, else the registered name most similar to it, if one is similar enough.
    pub fn suggest(&self, name: &str) -> Option<&str> {
        let is_meant = |spec: &&StageSpec| spec.other_names.iter().any(|other| other.eq_ignore_ascii_case(name));
        self.specs().find(is_meant).map(|spec| spec.name.as_str()).or_else(|| nearest(name, self.names()))
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
