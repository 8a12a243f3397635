//! Pipeline texts and files produce the same description, and both forms round-trip.
#![allow(clippy::unwrap_used)]

use framerail_pipeline::{Description, Origin, ServeDescription, StageDescription};
use proptest::prelude::*;

fn parse(text: &str) -> Description {
    Description::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn arguments(text: &str) -> Vec<String> {
    parse(text).chain.stages[0].arguments.iter().map(|value| value.text.clone()).collect()
}

#[test]
fn a_file_may_say_the_device() {
    let read = |text: &str| Description::from_toml(Origin::text(text));
    let stages = "[[stage]]\nuse = \"read\"\n";
    let description = read(&format!("device = \"cuda:1\"\n{stages}")).unwrap();
    assert_eq!(description.device, Some("cuda:1".parse().unwrap()));
    assert_eq!(read(&description.to_toml()).unwrap(), description);
    assert_eq!(read(stages).unwrap().device, None);
    let problems = read(&format!("device = \"gpu\"\n{stages}")).unwrap_err().to_string();
    assert!(problems.contains("unknown device `gpu`") && problems.contains("cuda:N"), "{problems}");
}

#[test]
fn a_text_becomes_stages_with_arguments_and_options() {
    let text = "read in.mp4 start=5 ! infer centerface ! tee ( save boxes.jsonl ) ( sample every=30 ! frames out/ ) ! write out.mp4";
    let expected = Description::from_stages(vec![
        StageDescription::new("read").argument("in.mp4").option("start", 5),
        StageDescription::new("infer").argument("centerface"),
        StageDescription::new("tee")
            .branch(vec![StageDescription::new("save").argument("boxes.jsonl")])
            .branch(vec![StageDescription::new("sample").option("every", 30), StageDescription::new("frames").argument("out/")]),
        StageDescription::new("write").argument("out.mp4"),
    ]);
    assert_eq!(parse(text), expected);
    assert_eq!(expected.to_string(), text);
}

#[test]
fn words_are_quoted_as_in_a_shell() {
    assert_eq!(arguments(r#"s 'a b' "c \"d\" \n" e\ f g'h'"i" '' '!'"#), ["a b", r#"c "d" \n"#, "e f", "ghi", "", "!"]);
    assert_eq!(arguments("s http://h/x?a=b ./a=b.mp4 'c=d' e\\=f ünï=x"), ["http://h/x?a=b", "./a=b.mp4", "c=d", "e=f", "ünï=x"]);
    assert_eq!(arguments("s -- a=b.mp4 c=d --"), ["a=b.mp4", "c=d", "--"]);
    let stage = &parse("s k='a b' k-2=\"c\"d e=").chain.stages[0];
    let options: Vec<(&str, &str)> = stage.options.iter().map(|o| (o.key.text.as_str(), o.value.text.as_str())).collect();
    assert_eq!(options, [("k", "a b"), ("k-2", "cd"), ("e", "")]);
    assert!(parse(" \n\t").chain.stages.is_empty());
}

#[test]
fn a_file_says_the_same_as_a_text() {
    let toml = r#"
        name = "faces"
        description = "Covers faces."
        [[stage]]
        use = "read"
        args = "in.mp4"
        start = 00:00:05
        [[stage]]
        use = "infer"
        args = ["centerface"]
        threshold = 0.50
        labels = ["face", "a,b"]
        [[stage]]
        use = "tee"
        branches = [
          [{ use = "save", args = ["boxes.jsonl"], sync = true }],
          [{ use = "tee", branches = [[{ use = "null" }]] }, { use = "frames", args = ["out/"], every = 0x1e }],
        ]
        [[stage]]
        use = "write"
        args = ["out.mp4"]
        encoder = { preset = "fast", tune = "film" }
    "#;
    let text = r"read in.mp4 start=00:00:05 ! infer centerface threshold=0.50 labels='face,a\,b'
        ! tee ( save boxes.jsonl sync=true ) ( tee ( null ) ! frames out/ every=30 ) ! write out.mp4 encoder=preset=fast,tune=film";
    let from_file = Description::from_toml(Origin::text(toml)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((from_file.name.as_deref(), from_file.description.as_deref()), (Some("faces"), Some("Covers faces.")));
    assert_eq!(from_file.chain, parse(text).chain);
    assert_eq!(Description::from_toml(Origin::text(from_file.to_toml())).unwrap(), from_file);
}

#[test]
fn a_file_says_where_it_is_watched() {
    let toml = "device = 'cpu'\n[serve]\naddress = '127.0.0.1:0'\ntoken = 'a \"quoted\" one'\nhosts = ['a', 'b']\nview = 'blur'\n[[stage]]\nuse = 'null'";
    let description = Description::from_toml(Origin::text(toml)).unwrap();
    let serve = description.serve.clone().unwrap();
    let hosts: Vec<&str> = serve.hosts.iter().map(|host| host.text.as_str()).collect();
    assert_eq!((serve.address.text.as_str(), hosts), ("127.0.0.1:0", vec!["a", "b"]));
    assert_eq!((serve.token.unwrap().text.as_str(), serve.view.unwrap().text.as_str()), ("a \"quoted\" one", "blur"));
    assert_eq!(Description::from_toml(Origin::text(description.to_toml())).unwrap(), description);
    let alone = Description { serve: Some(ServeDescription { address: ":0".into(), ..Default::default() }), ..Default::default() };
    assert_eq!(Description::from_toml(Origin::text(alone.to_toml())).unwrap(), alone);
    assert_ne!(alone, Description::default());
}

#[test]
fn a_file_says_where_its_metrics_go() {
    let toml = "[otlp]\nurl = 'http://collector:4318'\ntrace = 0\ninterval = 60\n[[stage]]\nuse = 'null'";
    let description = Description::from_toml(Origin::text(toml)).unwrap();
    let otlp = description.otlp.clone().unwrap();
    assert_eq!((otlp.url.text.as_str(), otlp.trace, otlp.interval), ("http://collector:4318", Some(0), Some(60)));
    assert_eq!(Description::from_toml(Origin::text(description.to_toml())).unwrap(), description);
    for (toml, expected) in [
        ("[otlp]\ntrace = 5", "`[otlp]` has no URL"),
        ("otlp = 'http://collector'", "write `[otlp]` above its keys"),
        ("[otlp]\nurl = 'env'\ninterval = 0", "`interval` must be a whole number from 1 to 3600"),
        ("[otlp]\nurl = 'env'\nintervall = 5", "did you mean `interval`?"),
    ] {
        let error = Description::from_toml(Origin::text(toml)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn toml_is_written_for_people() {
    let toml =
        parse("read 'my \"clip\".mp4' start=5 ! tee ( save b.jsonl ) ( sample every=30 ! null ) ! write out.mp4 crf=023 x=1.50").to_toml();
    let expected = r#"[[stage]]
use = "read"
args = ["my \"clip\".mp4"]
start = 5

[[stage]]
use = "tee"
branches = [
  [{ use = "save", args = ["b.jsonl"] }],
  [{ use = "sample", every = 30 }, { use = "null" }],
]

[[stage]]
use = "write"
args = ["out.mp4"]
crf = "023"
x = 1.50
"#;
    assert_eq!(toml, expected);
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,6}", "[ -~]{0,8}", any::<String>(), Just("--".to_owned()), Just("a=b".to_owned()), Just("!".to_owned())]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![word(), "-?[0-9]{1,3}", "-?[0-9]{1,2}\\.[0-9]{1,3}", Just("true".to_owned()), any::<i64>().prop_map(|n| n.to_string())]
}

fn stage() -> impl Strategy<Value = StageDescription> {
    let options = prop::collection::btree_map("k[a-zA-Z0-9_-]{0,6}", value(), 0..4);
    let leaf = (word(), prop::collection::vec(word(), 0..3), options).prop_map(|(name, arguments, options)| {
        let stage = arguments.into_iter().fold(StageDescription::new(name), StageDescription::argument);
        options.into_iter().fold(stage, |stage, (key, value)| stage.option(key, value))
    });
    let leaf = leaf.boxed();
    leaf.clone().prop_recursive(3, 12, 3, move |inner| {
        let branches = prop::collection::vec(prop::collection::vec(inner, 0..3), 0..3);
        (leaf.clone(), branches).prop_map(|(stage, branches)| branches.into_iter().fold(stage, StageDescription::branch))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "([ -~]|[!()'\"= \\\\]|\\PC){0,60}") {
        match Description::parse(&text) {
            Ok(description) => prop_assert_eq!(parse(&description.to_string()), description),
            Err(error) => prop_assert!(error.render(true).contains("error:")),
        }
        let _ = Description::from_toml(Origin::text(text)).map_err(|errors| errors.render(false));
    }

    #[test]
    fn a_description_is_read_back_from_its_text_and_its_toml(stages in prop::collection::vec(stage(), 0..4)) {
        let description = Description::from_stages(stages);
        prop_assert_eq!(&parse(&description.to_string()), &description);
        let toml = description.to_toml();
        let read = Description::from_toml(Origin::text(toml.clone())).map_err(|errors| TestCaseError::fail(format!("{errors}\n{toml}")))?;
        prop_assert_eq!(read, description);
    }
}
