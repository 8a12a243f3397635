//! The documentation is correct: the stage reference is current, every pipeline is well formed, every link has a target.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use framerail::pipeline::{Description, ErrorKind, Origin, Role, StageSpec, check};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README and everything in `docs` and `examples`, with their text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = root();
    let mut paths = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "examples"] {
        let entries = fs::read_dir(root.join(folder)).expect("a folder of documents");
        paths.extend(entries.map(|entry| entry.expect("readable").path()).filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("readable"))).collect()
}

const HEAD: &str = "\
# Stages

Made from the stages themselves; `framerail inspect` and `framerail inspect STAGE` show the same. Times, sizes and other values
are written as [pipelines](pipelines.md) says. After a change of a stage: `UPDATE_DOCS=1 cargo test -p framerail --test docs`.

| stage | role | what it does |
|---|---|---|
";

fn reference() -> String {
    let registry = framerail::registry();
    let specs: Vec<&StageSpec> = [Role::Source, Role::Transform, Role::Sink]
        .iter()
        .flat_map(|role| registry.specs().filter(move |spec| spec.role == *role))
        .collect();
    let row = |spec: &&StageSpec| format!("| [`{0}`](#{0}) | {1} | {2} |\n", spec.name, spec.role.as_str(), spec.summary);
    let section = |spec: &&StageSpec| format!("\n## {}\n\n```text\n{}```\n", spec.name, spec.text());
    HEAD.to_owned() + &specs.iter().map(row).collect::<String>() + &specs.iter().map(section).collect::<String>()
}

#[test]
fn the_reference_of_stages_is_current() {
    let path = root().join("docs/stages.md");
    let expected = reference();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &expected).expect("written");
    }
    for (spec, option) in framerail::registry().specs().flat_map(|spec| spec.all_options().into_iter().map(move |option| (spec, option))) {
        assert!(expected.contains(&format!("  {}=", option.name)), "{}: {} is missing", spec.name, option.name);
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/stages.md is not current: run `UPDATE_DOCS=1 cargo test -p framerail --test docs`");
}

/// How a shell writes a single quotation mark between single quotation marks.
const SHELL_QUOTE: &str = r"'\''";

/// The text between `framerail run '` (or `"`) and the closing quotation mark.
fn pipelines_in(text: &str) -> Vec<String> {
    let hidden = text.replace(SHELL_QUOTE, "\0");
    let quoted = hidden.split("framerail run ").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (inside, after) = rest.get(1..)?.split_once(quote)?;
        // A command that is shown to fail.
        let fails = after.lines().next().is_some_and(|line| line.trim_end().ends_with("|| true"));
        (!fails).then(|| inside.replace('\0', "'"))
    });
    quoted.collect()
}

#[test]
fn every_pipeline_shown_is_well_formed() {
    let registry = framerail::registry();
    let mut checked = 0;
    for (path, text) in documents() {
        // Placeholders such as `...` and CLIP are not pipelines.
        for pipeline in pipelines_in(&text).iter().filter(|pipeline| pipeline.starts_with("read ") && !pipeline.contains("...")) {
            let description = Description::parse(pipeline).unwrap_or_else(|error| panic!("{}: {}", path.display(), error.render(false)));
            if let Err(problems) = check(&description, &registry) {
                // The reader's files do not exist here.
                let missing = problems.iter().all(|problem| matches!(problem.kind, ErrorKind::Input | ErrorKind::Output));
                assert!(missing, "{}: {}", path.display(), problems.render(false));
            }
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} pipelines were found");
}

#[test]
fn every_pipeline_file_shown_is_well_formed() {
    for (path, text) in documents() {
        let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.contains("[[stage]]")) {
            let problems = match Description::from_toml(Origin::text(block)) {
                Ok(description) => check(&description, &framerail::registry()).err(),
                Err(problems) => Some(problems),
            };
            assert!(problems.is_none(), "{}: {}", path.display(), problems.map(|p| p.render(false)).unwrap_or_default());
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for (path, text) in documents() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = path.parent().expect("a folder").join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
        }
    }
}
