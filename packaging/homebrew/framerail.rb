# Homebrew formula. Set url and sha256 to the source archive of a release; test with `brew install --build-from-source ./framerail.rb`.
class Framerail < Formula
  desc "Video pipelines for deep learning"
  homepage "@HOMEPAGE@"
  url "@URL@"
  sha256 "@SHA256@"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "llvm" => :build # libclang, for the bindings of FFmpeg
  depends_on "pkgconf" => :build
  depends_on "rust" => :build
  depends_on "ffmpeg"
  depends_on :linux
  depends_on "onnxruntime"

  def install
    system "cargo", "install", *std_cargo_args(path: "crates/framerail-cli")
    generate_completions_from_executable(bin/"framerail", "completions", shells: [:bash, :zsh, :fish])
    system bin/"framerail", "man", man1
    pkgshare.install Dir["models/*.toml"]
  end

  test do
    system Formula["ffmpeg"].opt_bin/"ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=64x48:duration=1", "in.mp4"
    system bin/"framerail", "run", "read in.mp4 ! write out.mp4", "--no-progress"
    assert_path_exists testpath/"out.mp4"
  end
end
