#!/usr/bin/env bash
# Makes small clips of every kind that NVDEC meets, for `framerail-bench check`. usage: make_check_clips.sh FOLDER
set -euo pipefail
folder=${1:?usage: make_check_clips.sh FOLDER}
mkdir -p "$folder"

# clip NAME FRAMES SIZE ENCODER...
clip() {
    local name=$1 frames=$2 size=$3
    shift 3
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=$size:rate=25,noise=alls=6:allf=t" -frames:v "$frames" "$@" "$folder/$name"
}
x265=(-c:v libx265 -preset ultrafast)
clip h264.mp4 150 640x360 -pix_fmt yuv420p -c:v libx264 -g 25 -bf 3
clip h264-pyramid.mp4 150 640x360 -pix_fmt yuv420p -c:v libx264 -g 40 -bf 5 -b-pyramid normal
clip h264-open-gop.mp4 200 640x360 -pix_fmt yuv420p -c:v libx264 -x264-params keyint=40:min-keyint=40:scenecut=0:open-gop=1:bframes=3:b-adapt=0
clip h264-odd-size.mp4 120 638x358 -pix_fmt yuv420p -c:v libx264 -g 40
clip h264-interlaced.ts 120 720x576 -pix_fmt yuv420p -c:v libx264 -g 40 -flags +ildct+ilme -x264-params tff=1
clip h264-intra.mp4 100 640x360 -pix_fmt yuv420p -c:v libx264 -g 1
clip h264-one-gop.mp4 150 640x360 -pix_fmt yuv420p -c:v libx264 -g 1000 -sc_threshold 0
clip h264-full-range.mp4 100 640x360 -pix_fmt yuvj420p -c:v libx264 -g 40
clip h264.ts 150 640x360 -pix_fmt yuv420p -c:v libx264 -g 40
clip h264-422.mp4 20 640x360 -pix_fmt yuv422p -c:v libx264
clip h264-10-bit.mp4 20 640x360 -pix_fmt yuv420p10le -c:v libx264
clip hevc.mp4 150 640x360 -pix_fmt yuv420p "${x265[@]}" -x265-params log-level=none:keyint=40:open-gop=0:bframes=3
clip hevc-open-gop.mp4 200 640x360 -pix_fmt yuv420p "${x265[@]}" -x265-params log-level=none:keyint=40:min-keyint=40:scenecut=0:open-gop=1:bframes=3
clip hevc-10-bit.mp4 120 640x360 -pix_fmt yuv420p10le "${x265[@]}" -x265-params log-level=none:keyint=40
clip hevc-444.mkv 80 640x360 -pix_fmt yuv444p "${x265[@]}" -x265-params log-level=none:keyint=40
clip vp8.webm 120 640x360 -pix_fmt yuv420p -c:v libvpx -g 40 -deadline realtime -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 10
clip vp9.webm 120 640x360 -pix_fmt yuv420p -c:v libvpx-vp9 -g 40 -deadline realtime -cpu-used 8 -lag-in-frames 10
clip vp9-10-bit.webm 60 640x360 -pix_fmt yuv420p10le -c:v libvpx-vp9 -g 40 -deadline realtime -cpu-used 8 -profile:v 2
clip mpeg2.ts 120 720x576 -pix_fmt yuv420p -c:v mpeg2video -g 15 -bf 2 -q:v 9
clip mpeg4.avi 120 640x360 -pix_fmt yuv420p -c:v mpeg4 -g 40 -q:v 9
clip mpeg4-b-frames.mp4 120 640x360 -pix_fmt yuv420p -c:v mpeg4 -g 40 -bf 2 -q:v 9
clip mjpeg.avi 60 640x360 -pix_fmt yuvj420p -c:v mjpeg -q:v 6
clip av1.mkv 30 320x240 -pix_fmt yuv420p -c:v libaom-av1 -cpu-used 8 -g 20
clip prores.mov 6 640x360 -pix_fmt yuv422p10le -c:v prores_ks
# Turned by a tag, as phones do.
ffmpeg -v error -y -i "$folder/h264.mp4" -c copy -metadata:s:v rotate=90 "$folder/h264-rotated-90.mp4"
ffmpeg -v error -y -i "$folder/hevc-10-bit.mp4" -c copy -metadata:s:v rotate=270 "$folder/hevc-10-bit-rotated-270.mp4"
# A stream whose size changes in its middle.
clip small.h264 60 320x240 -pix_fmt yuv420p -c:v libx264 -g 30 -bf 0
clip large.h264 60 640x360 -pix_fmt yuv420p -c:v libx264 -g 30 -bf 0
cat "$folder/small.h264" "$folder/large.h264" "$folder/small.h264" >"$folder/h264-size-change.h264"
rm "$folder"/small.h264 "$folder"/large.h264
ls -l "$folder"
