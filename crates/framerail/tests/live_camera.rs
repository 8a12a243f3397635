//! Local cameras, as far as testable without one: FFmpeg's device library, options, refusals.

#[test]
fn a_camera_that_is_not_there_is_reported_by_name() {
    let error =
        framerail::run("read /dev/video97 size=1280x720 input_format=mjpeg fps=30 on_error=fail ! null").expect_err("no such camera");
    assert!(error.to_string().contains("/dev/video97: no such file"), "{error}");
}

#[test]
fn options_of_cameras_are_for_cameras() {
    let clip = framerail_testkit::ClipSpec::default().make();
    for option in ["size=640x480", "input_format=mjpeg"] {
        let error = framerail::run(&format!("read '{}' {option} ! null", clip.path().display())).expect_err(option).to_string();
        assert!(error.contains("for local cameras"), "{error}");
    }
}

#[test]
fn devices_give_frames_by_the_same_way() {
    // FFmpeg's test source is a device and stands in for a camera; unlike a camera, it ends.
    let text = "read 'testsrc2=size=160x120:rate=25:duration=1' format=lavfi live=yes on_error=end drop=none latency=none ! null";
    let outcome = framerail::run(text).expect("generated");
    assert_eq!(outcome.stats.frames_done(), 25);
}
