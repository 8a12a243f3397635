//! Checks a pipeline against the registered stages.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    OnSinkError,
    configure::{list_names, read_options},
    copies::CopyStages,
    description::{Chain, Description, Origin, Span, StageDescription},
    diagnostic::{Diagnostic, Diagnostics},
    options::{ConfigError, Options},
    planned::{Plan, PlannedStage},
    registry::{RegisteredStage, Registry},
    spec::{ON_ERROR, Role, StageSpec},
};

/// Checks a pipeline: stages and options exist, values have the right type and range, and the pipeline goes from a source to sinks.
/// Opens nothing; [`Plan::link`] does.
///
/// # Errors
/// All mistakes, in the order of the text.
pub fn check(description: &Description, registry: &Registry) -> Result<Plan, Diagnostics> {
    let mut checker = Checker {
        registry,
        origin: &description.origin,
        problems: Vec::new(),
        stages: Vec::new(),
        names: given_names(&description.chain),
        seen_names: BTreeSet::new(),
    };
    if description.chain.stages.is_empty() {
        checker.problem(None, "the pipeline is empty", Some(checker.example()));
    }
    checker.chain(&description.chain, None);
    if checker.problems.is_empty() {
        return Ok(Plan::new(checker.stages, Arc::clone(&description.origin), CopyStages::of(registry)));
    }
    checker.problems.sort_by_key(|problem| problem.span.map(|span| span.start));
    Err(Diagnostics(checker.problems))
}

/// All names given by the author, so that generated names do not clash with them.
fn given_names(chain: &Chain) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for stage in &chain.stages {
        names.extend(stage.name().map(str::to_owned));
        for branch in &stage.branches {
            names.extend(given_names(branch));
        }
    }
    names
}

struct Checker<'a> {
    registry: &'a Registry,
    origin: &'a Arc<Origin>,
    problems: Vec<Diagnostic>,
    stages: Vec<PlannedStage>,
    /// All names in use.
    names: BTreeSet<String>,
    /// Names given by the author to the stages checked so far.
    seen_names: BTreeSet<String>,
}

impl Checker<'_> {
    fn problem(&mut self, span: Option<Span>, message: impl std::fmt::Display, help: Option<String>) {
        let mut diagnostic = Diagnostic::new(self.origin, span, message);
        diagnostic.help = help;
        self.problems.push(diagnostic);
    }

    /// Checks a chain fed by the stage at `parent`, or the whole pipeline.
    fn chain(&mut self, chain: &Chain, mut parent: Option<usize>) {
        let is_branch = parent.is_some();
        for (index, stage) in chain.stages.iter().enumerate() {
            let first = index == 0 && !is_branch;
            let last = index + 1 == chain.stages.len();
            parent = self.stage(stage, first, last, parent);
        }
    }

    /// Checks a stage with its branches; returns its index in the plan.
    fn stage(&mut self, stage: &StageDescription, first: bool, last: bool, parent: Option<usize>) -> Option<usize> {
        let name = self.name(stage);
        let Some(registered) = self.registry.get(&stage.stage.text) else {
            self.unknown_stage(stage, first, last);
            self.branches(stage, parent.or(Some(0)));
            return parent;
        };
        self.position(stage, &registered.spec, first, last);
        self.branch_form(stage, &registered.spec);
        let place = self.configure(stage, registered, name, parent);
        // After a mistake no plan is made; any index will do for checking the rest.
        let place = place.or(parent).or(Some(0));
        self.branches(stage, place);
        place
    }

    fn branches(&mut self, stage: &StageDescription, place: Option<usize>) {
        for branch in &stage.branches {
            if branch.stages.is_empty() {
                self.problem(branch.span, "this branch is empty", Some("give it stages, or leave it out".into()));
            }
            self.chain(branch, place);
        }
    }

    fn configure(&mut self, stage: &StageDescription, registered: &RegisteredStage, name: String, parent: Option<usize>) -> Option<usize> {
        let before = self.problems.len();
        let options = read_options(&registered.spec, stage, self.origin, &mut self.problems);
        if self.problems.len() > before {
            return None;
        }
        match registered.configure(&options) {
            Err(error) => {
                self.contradiction(stage, &options, error);
                None
            }
            Ok(plan) => {
                let queue = if registered.spec.role == Role::Source { 1 } else { options.count("queue") };
                let origin = (registered.spec.name.clone(), stage.stage.span);
                let mut planned = PlannedStage::new(name, origin, registered.spec.role, plan, queue, parent);
                let is_given = registered.spec.role == Role::Sink && options.is_given(ON_ERROR);
                planned.on_error = is_given.then(|| if options.choice(ON_ERROR) == "drop" { OnSinkError::Drop } else { OnSinkError::Fail });
                self.stages.push(planned);
                Some(self.stages.len() - 1)
            }
        }
    }

    fn contradiction(&mut self, stage: &StageDescription, options: &Options, error: ConfigError) {
        let span = error.option.as_deref().and_then(|option| options.span_if_known(option));
        let message = format!("`{}`: {}", options.stage(), error.message);
        let mut diagnostic = Diagnostic::new(self.origin, span.or(stage.stage.span), message).kind(error.kind);
        diagnostic.help = error.help;
        self.problems.push(diagnostic);
    }

    /// The name given by the author; otherwise the stage's name, with a number appended if it is taken.
    fn name(&mut self, stage: &StageDescription) -> String {
        if let Some(name) = stage.name() {
            let span = stage.options.iter().find(|option| option.key.text == "name").and_then(|option| option.value.span);
            if name.is_empty() {
                self.problem(span.or(stage.stage.span), "a name cannot be empty", None);
            } else if !self.seen_names.insert(name.to_owned()) {
                let help = "names identify stages in statistics and graphs; choose another".to_owned();
                self.problem(span.or(stage.stage.span), format!("two stages are called `{name}`"), Some(help));
            }
            return name.to_owned();
        }
        let base = &stage.stage.text;
        let mut name = base.clone();
        let mut number = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }

    fn unknown_stage(&mut self, stage: &StageDescription, first: bool, last: bool) {
        let wanted = &stage.stage.text;
        let help = match self.registry.suggest(wanted) {
            Some(near) => format!("did you mean `{near}`?"),
            None if first => format!("a pipeline starts with {}", self.named(|spec| spec.role == Role::Source, " or ")),
            None if last => format!("a pipeline ends with {}", self.named(|spec| spec.role == Role::Sink, " or ")),
            None => format!("there are {}", list_names(&self.registry.names().collect::<Vec<_>>())),
        };
        self.problem(stage.stage.span, format!("no stage is called `{wanted}`"), Some(help));
    }

    /// Checks that sources come first and sinks last.
    fn position(&mut self, stage: &StageDescription, spec: &StageSpec, first: bool, last: bool) {
        let (name, span) = (&spec.name, stage.stage.span);
        if first && spec.role != Role::Source {
            let help = format!("begin with {}", self.named(|spec| spec.role == Role::Source, " or "));
            self.problem(span, format!("`{name}` cannot be first: it needs frames from another stage"), Some(help));
        }
        if !first && spec.role == Role::Source {
            let help = "a pipeline has one source, at its start".to_owned();
            self.problem(span, format!("`{name}` is a source, so no stage can come before it"), Some(help));
        }
        if !last && spec.role == Role::Sink {
            let help = self.tee().map(|tee| format!("put it in a branch: `{tee} ( {stage} ) ! ...`"));
            self.problem(span, format!("`{name}` is a sink, so no stage can come after it"), help);
        }
        if last && spec.role != Role::Sink && !spec.branches {
            let help = format!("end with {}", self.named(|spec| spec.role == Role::Sink, " or "));
            self.problem(span, format!("`{name}` cannot be last: no stage uses its frames"), Some(help));
        }
    }

    /// Checks that branches are present where required, and only there.
    fn branch_form(&mut self, stage: &StageDescription, spec: &StageSpec) {
        let (name, span) = (&spec.name, stage.stage.span);
        if spec.branches && stage.branches.is_empty() {
            let help = format!("give it at least one: `{name} ( stage ... ) ! ...`");
            self.problem(span, format!("`{name}` has no branches"), Some(help));
        }
        if let Some(branch) = stage.branches.first().filter(|_| !spec.branches) {
            let help = self.tee().map(|tee| format!("put `! {tee}` before the branches"));
            self.problem(branch.span.or(span), format!("`{name}` takes no branches"), help);
        }
    }

    fn tee(&self) -> Option<&str> {
        self.registry.specs().find(|spec| spec.branches).map(|spec| spec.name.as_str())
    }

    /// Names of the stages selected by `wanted`, as a list: `a`, `b` or `c`.
    fn named(&self, wanted: impl Fn(&StageSpec) -> bool, last: &str) -> String {
        let names: Vec<String> = self.registry.specs().filter(|spec| wanted(spec)).map(|spec| format!("`{}`", spec.name)).collect();
        match names.split_last() {
            Some((only, [])) => only.clone(),
            Some((end, rest)) => format!("{}{last}{end}", rest.join(", ")),
            None => "your own stage; none is registered".into(),
        }
    }

    fn example(&self) -> String {
        let first = |role: Role| self.registry.specs().find(|spec| spec.role == role).map_or("...".to_owned(), StageSpec::usage);
        format!("write stages separated by ` ! `, such as `{} ! {}`", first(Role::Source), first(Role::Sink))
    }
}
