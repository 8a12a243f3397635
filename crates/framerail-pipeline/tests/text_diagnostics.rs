//! The messages that users see for each mistake.
#![allow(clippy::unwrap_used)]

mod text_support;

use std::path::Path;

use framerail_pipeline::{Description, ErrorKind, Origin, check};
use text_support::registry;

/// All messages for a text, up to linking its stages.
fn messages(text: &str) -> String {
    let (registry, _) = registry();
    match Description::parse(text) {
        Err(error) => error.render(false),
        Ok(description) => match check(&description, &registry).map(|mut plan| plan.link()) {
            Ok(Ok(())) => "fine".into(),
            Ok(Err(errors)) | Err(errors) => errors.render(false),
        },
    }
}

#[track_caller]
fn expect(text: &str, expected: &str) {
    let lines: Vec<&str> = expected.lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect();
    let messages = messages(text);
    let expected = lines.join("\n");
    assert_eq!(messages, expected.trim_matches('\n').trim_end(), "\n--- reported:\n{messages}");
}

#[test]
fn right_pipelines_pass() {
    expect(
        "read in.mp4 start=1:30 ! infer centerface ! blur strength=2 size=auto workers=auto ! tee ( save b ) ( null ) ! write o",
        "fine",
    );
    expect("read in.mp4 ! tee ( null name=a ) ( tee ( null ) ! null queue=1024 )", "fine");
}

#[test]
fn unknown_names_get_the_nearest() {
    expect(
        "read in.mp4 ! blurr ! null",
        "
        error: no stage is called `blurr`
          read in.mp4 ! blurr ! null
                        ^^^^^
          help: did you mean `blur`?",
    );
    expect(
        "transmogrify ! null",
        "
        error: no stage is called `transmogrify`
          transmogrify ! null
          ^^^^^^^^^^^^
          help: a pipeline starts with `read`",
    );
    expect(
        "read in.mp4 ! infer c ! blur strenght=1 ! null",
        "
        error: `blur` has no option `strenght`
          read in.mp4 ! infer c ! blur strenght=1 ! null
                                       ^^^^^^^^
          help: did you mean `strength`?",
    );
    expect(
        "read in.mp4 queue=3 ! null zzz=1",
        "
        error: `read` has no option `queue`
          read in.mp4 queue=3 ! null zzz=1
                      ^^^^^
          help: a source has no queue before it; set it on the stage that follows

        error: `null` has no option `zzz`
          read in.mp4 queue=3 ! null zzz=1
                                     ^^^
          help: it has `name`, `queue` and `on_error`",
    );
}

#[test]
fn wrong_values_get_range_and_type() {
    expect(
        "read in.mp4 ! infer c ! blur strength=9 cells=two kind=gausian ! null queue=0",
        "
        error: strength=9 is out of range; it must be from 0 to 2
          read in.mp4 ! infer c ! blur strength=9 cells=two kind=gausian ! null queue=0
                                       ^^^^^^^^^^
          help: strength: Relative to the size of the face.

        error: cells=two expects an integer
          read in.mp4 ! infer c ! blur strength=9 cells=two kind=gausian ! null queue=0
                                                  ^^^^^^^^^
          help: cells: Cells across a face, for mosaic.

        error: kind=gausian is not one of `gaussian`, `mosaic` or `solid`; did you mean `gaussian`?
          read in.mp4 ! infer c ! blur strength=9 cells=two kind=gausian ! null queue=0
                                                            ^^^^^^^^^^^^
          help: kind: How to cover.

        error: queue=0 is out of range; it must be from 1 to 1024
          read in.mp4 ! infer c ! blur strength=9 cells=two kind=gausian ! null queue=0
                                                                                ^^^^^^^
          help: queue: Frames that may wait before this stage.",
    );
    expect(
        "read 映画.mp4 start=x ! infer c ! blur size=big ! null",
        "
        error: start=x expects a time such as `90`, `1:30`, `00:01:30.5` or `500ms`
          read 映画.mp4 start=x ! infer c ! blur size=big ! null
                        ^^^^^^^
          help: start: Where to begin.

        error: size=big expects width and height such as `640x384`, each from 1 to 65535, or `auto`
          read 映画.mp4 start=x ! infer c ! blur size=big ! null
                                                 ^^^^^^^^
          help: size: Size of the mask.",
    );
}

#[test]
fn arguments_are_counted() {
    expect(
        "read ! write a b ! null",
        "
        error: `read` needs INPUT: the video to read
          read ! write a b ! null
          ^^^^
          help: write it as `read INPUT [key=value ...]`

        error: `write` is a sink, so no stage can come after it
          read ! write a b ! null
                 ^^^^^
          help: put it in a branch: `tee ( write a b ) ! ...`

        error: `write` takes one argument; `b` is an extra one
          read ! write a b ! null
                         ^
          help: write it as `write OUTPUT`",
    );
    expect(
        "read in.mp4 ! null !save",
        "
        error: `null` takes no arguments, but is given `!save`
          read in.mp4 ! null !save
                             ^^^^^
          help: `!`, `(` and `)` stand alone, with spaces around them",
    );
    expect(
        "read in.mp4 ! sample every ! null",
        "
        error: `sample` needs the option `every=`
          read in.mp4 ! sample every ! null
                        ^^^^^^
          help: every: Keeps one frame of so many.

        error: `sample` takes no arguments, but is given `every`
          read in.mp4 ! sample every ! null
                               ^^^^^
          help: `every` is an option; write `every=VALUE`",
    );
    assert!(messages("read in.mp4 ! null --queue=2").ends_with("help: `queue` is an option; write `queue=VALUE`"));
}

#[test]
fn options_given_twice_or_at_odds() {
    expect(
        "read in.mp4 ! infer c ! blur cells=2 kind=solid cells=3 ! null",
        "
        error: option `cells` is given twice
          read in.mp4 ! infer c ! blur cells=2 kind=solid cells=3 ! null
                                                          ^^^^^^^
          help: keep one of the two",
    );
    expect(
        "read in.mp4 ! infer c ! blur kind=solid ! null",
        "
        error: `blur`: kind=solid needs a colour
          read in.mp4 ! infer c ! blur kind=solid ! null
                                            ^^^^^
          help: add `color=black`",
    );
    expect(
        "read in.mp4 name=a ! tee ( null name=a ) ! null name=''",
        "
        error: two stages are called `a`
          read in.mp4 name=a ! tee ( null name=a ) ! null name=''
                                               ^
          help: names identify stages in statistics and graphs; choose another

        error: a name cannot be empty
          read in.mp4 name=a ! tee ( null name=a ) ! null name=''
                                                               ^^",
    );
}

#[test]
fn stages_stand_where_they_can() {
    expect(
        "infer c ! blur",
        "
        error: `infer` cannot be first: it needs frames from another stage
          infer c ! blur
          ^^^^^
          help: begin with `read`

        error: `blur` cannot be last: no stage uses its frames
          infer c ! blur
                    ^^^^
          help: end with `null`, `save` or `write`",
    );
    expect(
        "read a ! read b ! null",
        "
        error: `read` is a source, so no stage can come before it
          read a ! read b ! null
                   ^^^^
          help: a pipeline has one source, at its start",
    );
    expect(
        "read a ! tee ( infer c ) ! null ( save b )",
        "
        error: `infer` cannot be last: no stage uses its frames
          read a ! tee ( infer c ) ! null ( save b )
                         ^^^^^
          help: end with `null`, `save` or `write`

        error: `null` takes no branches
          read a ! tee ( infer c ) ! null ( save b )
                                          ^^^^^^^^^^
          help: put `! tee` before the branches",
    );
    expect(
        "read a ! tee ( ) ! tee ! null",
        "
        error: this branch is empty
          read a ! tee ( ) ! tee ! null
                       ^^^
          help: give it stages, or leave it out

        error: `tee` has no branches
          read a ! tee ( ) ! tee ! null
                             ^^^
          help: give it at least one: `tee ( stage ... ) ! ...`",
    );
    expect(
        "",
        "
        error: the pipeline is empty
          help: write stages separated by ` ! `, such as `read INPUT [key=value ...] ! null`",
    );
}

#[test]
fn formats_that_do_not_fit_are_shown() {
    expect(
        "read in.mp4 ! tee ( blur ! null ) ! blur ! null",
        "
        error: `blur` needs frames with detections; `tee` gives 1280x720 yuv420p 25 fps on cpu
          read in.mp4 ! tee ( blur ! null ) ! blur ! null
                              ^^^^
          help: put `infer MODEL` before it

        error: `blur` needs frames with detections; `tee` gives 1280x720 yuv420p 25 fps on cpu
          read in.mp4 ! tee ( blur ! null ) ! blur ! null
                                              ^^^^
          help: put `infer MODEL` before it",
    );
    expect(
        "read missing.mp4 ! blur ! null",
        "
        error: `read`: missing.mp4: no such file
          read missing.mp4 ! blur ! null
          ^^^^",
    );
    let (registry, _) = registry();
    let mut plan = check(&Description::parse("read missing.mp4 ! null").unwrap(), &registry).unwrap();
    assert_eq!(plan.link().unwrap_err().kind(), ErrorKind::Input);
}

#[test]
fn mistakes_of_form_are_underlined() {
    let one = |text: &str, at: &str, message: &str| {
        let messages = messages(text);
        let lines: Vec<&str> = messages.lines().collect();
        assert_eq!((lines[0], lines[1], lines[2].trim_start()), (&*format!("error: {message}"), &*format!("  {text}"), at), "{messages}");
    };
    one("read a ! ! null", "^", "a stage is missing before this `!`");
    one("! null", "^", "a stage is missing before this `!`");
    one("read a !", "^", "a stage is missing after this `!`");
    one("read 'a ! null", "^^^^^^^^^", "this quotation has no closing '");
    one("read a\\", "^", "nothing follows this backslash");
    one("read a ! tee ( null", "^", "this `(` is never closed");
    one("read a ! tee ( null)", "^^^^^", "this `)` is part of a word");
    one("read a ) ! null", "^", "this `)` closes nothing");
    one("read a ! ( null )", "^", "a branch must follow the stage that feeds it");
    one("read a ! tee ( null ) null", "^^^^", "`!` is missing before `null`");
    one("read a ! tee ( null ) name=x", "^^^^^^", "options of a stage come before its branches");
    one("read a ! name=x", "^^^^^^", "a stage begins with its name, not with `name=x`");
    one("read a ! tee ( ! null )", "^", "a stage is missing before this `!`");
    one("read a ! tee ( null ! ) ! null", "^", "a stage is missing after this `!`");
    let deep = "t ( ".repeat(40) + &") ".repeat(40);
    assert!(messages(&deep).starts_with("error: branches are more than 16 deep"));
}

#[test]
fn files_are_shown_with_line_and_column() {
    let in_file = |toml: &str| {
        let (registry, _) = registry();
        let description = Description::from_toml(Origin::file(Path::new("faces.toml"), toml));
        description.and_then(|description| check(&description, &registry)).map(|_| ()).unwrap_err().render(false)
    };
    let toml =
        "[[stage]]\nuse = \"read\"\nargs = [\"in.mp4\"]\n\n[[stage]]\nuse = \"infre\"\n\n[[stage]]\nuse = \"null\"\nqueue = 5000 # many\n";
    let expected = "error: no stage is called `infre`
  faces.toml:6:7
  use = \"infre\"
        ^^^^^^^
  help: did you mean `infer`?

error: queue=5000 is out of range; it must be from 1 to 1024
  faces.toml:10:1
  queue = 5000 # many
  ^^^^^^^^^^^^
  help: queue: Frames that may wait before this stage.";
    assert_eq!(in_file(toml), expected);
    let first = |toml: &str| in_file(toml).lines().take(2).collect::<Vec<_>>().join(" |");
    assert_eq!(first("nmae = 'x'"), "error: a pipeline file has no key `nmae` |  faces.toml:1:1");
    assert_eq!(in_file("[serve]\nadress = ':1'").lines().nth(4), Some("  help: did you mean `address`?"));
    assert_eq!(first("[serve]\naddress = ':1'\nport = 1"), "error: `[serve]` has no key `port` |  faces.toml:3:1");
    assert_eq!(first("[serve]\nview = 'a'"), "error: `[serve]` has no address |  faces.toml:1:2");
    assert_eq!(first("[serve]\naddress = 80"), "error: `address` must be text in quotes |  faces.toml:2:11");
    assert_eq!(first("serve = ':1'"), "error: `serve` must be a table; write `[serve]` above its keys |  faces.toml:1:9");
    assert_eq!(first("\nstage = 3"), "error: `stage` must be a list of tables; write `[[stage]]` above each |  faces.toml:2:9");
    assert_eq!(first("[[stage]]\nargs = ['a']"), "error: this stage has no `use` |  faces.toml:1:1");
    assert_eq!(first("[[stage]]\nuse = 3"), "error: `use` must be text in quotes |  faces.toml:2:7");
    assert_eq!(first("[[stage]]\nuse = 'tee'\nbranches = [3]"), "error: `branches` must be a list of lists of stages |  faces.toml:3:13");
    assert!(first("[[stage]]\nuse = ").contains("faces.toml:2:"), "{}", in_file("[[stage]]\nuse = "));
    let missing = Description::read_file(Path::new("/nonexistent/x.toml")).unwrap_err();
    assert!(missing.render(false).starts_with("error: cannot read the pipeline file /nonexistent/x.toml: no such file"), "{missing}");
}

#[test]
fn colour_is_only_where_asked_for() {
    let (registry, _) = registry();
    let errors = check(&Description::parse("nul").unwrap(), &registry).err().unwrap();
    assert!(errors.render(true).contains("\x1b[1;31merror:\x1b[0m"));
    assert!(!errors.to_string().contains('\x1b'));
}

/// Found by fuzzing: a file with an error on every line took a minute and printed hundreds of thousands of lines.
#[test]
fn a_file_with_thousands_of_errors_shows_the_first_ones_and_their_number() {
    let errors = Description::from_toml(Origin::text("=\n".repeat(10_000))).unwrap_err();
    assert!(errors.len() >= 10_000, "{}", errors.len());
    let text = errors.to_string();
    assert_eq!(text.matches("error: ").count(), 20, "{text}");
    assert!(text.ends_with(&format!("\n\nand {} more errors", errors.len() - 20)), "{text}");
}
