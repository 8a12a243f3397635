//! The FFmpeg that is linked: for `doctor`.
/// FFmpeg's version, such as `5.1.9-0+deb12u1`.
pub fn ffmpeg_version() -> String {
    String::new()
}
/// Its licence.
pub fn ffmpeg_license() -> String {
    String::new()
}
/// Its configure line.
pub fn ffmpeg_configuration() -> String {
    String::new()
}
/// Names of its video decoders.
pub fn video_decoders() -> Vec<String> {
    Vec::new()
}
/// Names of its video encoders.
pub fn video_encoders() -> Vec<String> {
    Vec::new()
}
