//! `framerail run --serve`: the printed address, refused options, and the page in a browser.
#![cfg(feature = "serve")]

mod common;

use std::{net::TcpListener, path::Path, process::Command};

use common::{Place, has_browser};
use framerail_testkit::ClipSpec;

/// The address that a program prints.
const TOLD: &str = "monitoring page: http://";

fn address(reported: &str) -> String {
    let (_, rest) = reported.split_once("monitoring page: ").expect("told");
    rest.split_whitespace().next().expect("an address").to_owned()
}

#[test]
fn an_address_that_cannot_be_had_is_one_line() {
    let place = Place::new();
    let clip = ClipSpec::default().make();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").to_string();
    let text = format!("read {} ! write out.mp4", clip.path().display());
    for (arguments, code, words) in [
        (vec!["--serve", port.as_str()], 6, "is in use"),
        (vec!["--serve", "nowhere"], 2, "not an address to serve at"),
        (vec!["--serve", "0.0.0.0:0"], 2, "FRAMERAIL_SERVE_TOKEN"),
        (vec!["--serve", "127.0.0.1:0", "--serve-token", "short"], 2, "8 to 256"),
        (vec!["--serve", "127.0.0.1:0", "--serve-view", "blur"], 2, "there are read, write"),
    ] {
        let output = place.framerail().args(["run", &text, "--no-progress"]).args(&arguments).run();
        output.assert_code(code).assert_stderr_contains(words);
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
    place
        .framerail()
        .args(["run", &text, "--serve-view", "read"])
        .run()
        .assert_code(2)
        .assert_stderr_contains("the address to serve at is missing");
    place
        .framerail()
        .args(["run", &text, "--serve", "127.0.0.1:0", "--no-serve"])
        .run()
        .assert_code(2)
        .assert_stderr_contains("--no-serve");
    assert!(place.names().is_empty(), "nothing was begun: {:?}", place.names());
}

#[test]
fn a_served_run_ends_as_ever() {
    let place = Place::new();
    let clip = ClipSpec::default().make();
    let text = format!("read {} ! write out.mp4", clip.path().display());
    let output = place.framerail().args(["run", &text, "--serve", "127.0.0.1:0"]).run();
    output.assert_success().assert_stderr_contains("monitoring page: http://127.0.0.1:");
    let long = ClipSpec::default().frames(250).make();
    let text = format!("read {} realtime=yes stay=yes ! write live.mp4", long.path().display());
    let mut running = place.framerail().args(["run", &text, "--serve", "127.0.0.1:0"]).start();
    running.wait_for_stderr(TOLD);
    running.signal("INT");
    running.wait().assert_code(130);
}

#[test]
fn the_command_overrides_the_device_of_a_pipeline_file() {
    let place = Place::new();
    let clip = ClipSpec::default().make();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").to_string();
    let stages = format!("[[stage]]\nuse = 'read'\nargs = [\"{}\"]\n[[stage]]\nuse = 'null'\n", clip.path().display());
    place.write("free.toml", &format!("[serve]\naddress = '127.0.0.1:0'\nview = 'read'\n{stages}"));
    place.write("taken.toml", &format!("[serve]\naddress = '{port}'\n{stages}"));
    let run = |arguments: &[&str]| place.framerail().arg("run").args(arguments).run();
    run(&["free.toml"]).assert_success().assert_stderr_contains(TOLD);
    run(&["free.toml", "--serve-view", "blur"]).assert_code(2).assert_stderr_contains("no stage `blur`");
    run(&["taken.toml"]).assert_code(6).assert_stderr_contains("is in use");
    run(&["taken.toml", "--serve", "127.0.0.1:0"]).assert_success().assert_stderr_contains(TOLD);
    let quiet = run(&["taken.toml", "--no-serve"]);
    quiet.assert_success();
    assert!(!quiet.stderr.contains(TOLD), "{quiet}");
}

#[test]
fn the_page_works_in_a_browser() {
    if !has_browser() {
        return;
    }
    let place = Place::new();
    let clip = ClipSpec::default().frames(3000).size(320, 240).make();
    let text = format!(
        "read '{}' realtime=yes stay=yes streams=all ! infer centerface size=192x160 every=5 ! track ! draw ! null",
        clip.path().display()
    );
    let door = ["--serve", "127.0.0.1:0", "--serve-token", "a-token-of-the-test", "--serve-sources", "file"];
    let patience = std::time::Duration::from_secs(280);
    let mut running = place.framerail().args(["run", &text, "--no-progress"]).args(door).time_limit(patience).start();
    running.wait_for_stderr(TOLD);
    let address = format!("{}?token=a-token-of-the-test", address(&running.stderr()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page.py");
    let looked = Command::new("python3").arg("-B").arg(script).arg(&address).arg(clip.path()).output().expect("python3 is there");
    assert!(looked.status.success(), "{}{}", String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    // The page has stopped the run.
    running.wait().assert_success();
}
