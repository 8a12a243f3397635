//! The page: one HTML file with styles and images included. All texts from files are escaped.

use std::fmt::{self, Write};

use framerail_core::markup_escaped;

use super::{
    Subject,
    chart::timeline_svg,
    doubt::{DoubtKind, Uncertainty},
    image::{Jpeg, base64},
    record::{Counts, StreamRecord},
};

const STYLE: &str = include_str!("style.css");
/// Maximum number of bars over all streams, so that a folder of clips does not make a page of many megabytes.
const MAX_BARS: usize = 9600;
const MIN_BARS_PER_STREAM: usize = 30;

/// Content of a page.
pub(super) struct Page<'a> {
    pub(super) subject: &'a Subject,
    pub(super) streams: &'a [StreamRecord],
    pub(super) doubts: &'a [&'a Uncertainty],
    pub(super) with_thumbnails: bool,
}

/// A time as minutes and seconds, with hours if there are any: `1:02.345`.
pub(super) fn clock(secs: f64) -> String {
    let millis = (secs.abs() * 1000.0).round() as u64;
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let sign = if secs < 0.0 && millis > 0 { "-" } else { "" };
    let (seconds, millis) = (rest / 1000, rest % 1000);
    if minutes >= 60 {
        format!("{sign}{}:{:02}:{seconds:02}.{millis:03}", minutes / 60, minutes % 60)
    } else {
        format!("{sign}{minutes}:{seconds:02}.{millis:03}")
    }
}

/// A number with thin spaces between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "none".into() } else { format!("{:.1}%", part as f64 / whole as f64 * 100.0) }
}

fn score(score: Option<f32>) -> String {
    score.map_or_else(|| "–".to_owned(), |score| format!("{score:.2}"))
}

impl Page<'_> {
    /// The whole file.
    pub(super) fn html(&self) -> String {
        let mut html = String::new();
        self.head(&mut html);
        self.summary(&mut html);
        if self.streams.len() > 1 {
            self.stream_table(&mut html);
        }
        for record in self.streams {
            self.stream(&mut html, record);
        }
        self.doubts(&mut html);
        self.reading_guide(&mut html);
        html.push_str("</main>\n</body>\n</html>\n");
        html
    }

    fn title(&self) -> String {
        let names: Vec<&str> = self.streams.iter().take(3).map(|record| record.info.name.as_str()).collect();
        let more = self.streams.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{} in {}{more}", capitalised(&self.subject.plural), names.join(", "))
    }

    fn head(&self, html: &mut String) {
        let title = markup_escaped(&self.title());
        put(
            html,
            format_args!(
                "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
                 <meta name=\"generator\" content=\"framerail \
                 {}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
                 <h1>{title}</h1>\n<p class=\"soft\">Found by {}.</p>",
                env!("CARGO_PKG_VERSION"),
                markup_escaped(&self.subject.model)
            ),
        );
        if self.with_thumbnails && !self.doubts.is_empty() {
            put(
                html,
                format_args!(
                    "<p class=\"warning\" role=\"note\"><strong>The images on this page are not blurred.</strong> They show detections \
                     before anything was covered. Protect the page as you protect the footage.</p>"
                ),
            );
        }
    }

    /// Frames that the figures do not cover.
    fn skipped_note(&self, html: &mut String, total: &Counts) {
        if self.subject.has_gaps_by_plan {
            let skipped = count(total.frames - total.analysed.min(total.frames), "frame");
            put(
                html,
                format_args!(
                    "<p class=\"warning\" role=\"note\"><strong>{skipped} on which the model did not run</strong> have no boxes, because \
                     no stage fills them in. Gaps below are counted in frames on which it ran.</p>"
                ),
            );
        }
    }

    /// Sums over all streams.
    fn total(&self) -> Counts {
        let mut total = Counts::default();
        for Counts {
            frames,
            analysed,
            with_boxes,
            filled,
            detected,
            interpolated,
            held,
            tracks,
            seen_once,
            gaps_filled,
            longest_gap,
            gaps_held,
            gaps_open,
            frames_open,
            lowest_score,
        } in self.streams.iter().map(|record| record.counts)
        {
            total.frames += frames;
            total.analysed += analysed;
            total.with_boxes += with_boxes;
            total.filled += filled;
            total.detected += detected;
            total.interpolated += interpolated;
            total.held += held;
            total.tracks += tracks;
            total.seen_once += seen_once;
            total.gaps_filled += gaps_filled;
            total.longest_gap = total.longest_gap.max(longest_gap);
            total.gaps_held += gaps_held;
            total.gaps_open += gaps_open;
            total.frames_open += frames_open;
            total.lowest_score = [total.lowest_score, lowest_score].into_iter().flatten().reduce(f32::min);
        }
        total
    }

    fn summary(&self, html: &mut String) {
        let total = self.total();
        let plural = markup_escaped(&self.subject.plural);
        self.skipped_note(html, &total);
        html.push_str("<ul class=\"tiles\">\n");
        tile(html, &grouped(total.frames), &format!("frames, {} analysed", grouped(total.analysed)), false);
        let share = percent(total.with_boxes, total.frames);
        tile(html, &grouped(total.with_boxes), &format!("frames with {plural} ({share})"), false);
        tile(html, &grouped(total.filled), "frames with a filled-in box", false);
        let longest = if total.longest_gap > 0 { format!(", the longest of {}", count(total.longest_gap, "frame")) } else { String::new() };
        let open = if total.gaps_open > 0 { format!(": {} without a box", count(total.frames_open, "frame")) } else { String::new() };
        tile(html, &grouped(total.gaps_open), &format!("gaps left open{open}"), total.gaps_open > 0);
        tile(html, &grouped(total.gaps_filled), &format!("gaps filled between two detections{longest}"), false);
        if total.gaps_held > 0 {
            tile(html, &grouped(total.gaps_held), "longer gaps covered from both sides", false);
        }
        tile(html, &grouped(total.tracks), &format!("different {plural}, as far as they could be tracked"), false);
        tile(html, &grouped(total.seen_once), &format!("{plural} seen in only one frame"), total.seen_once > 0);
        tile(html, &score(total.lowest_score), "lowest score", false);
        html.push_str("</ul>\n");
        put(
            html,
            format_args!(
                "<div class=\"table\"><table>\n<thead><tr><th scope=\"col\">Boxes</th><th scope=\"col\">Number</th>\
                 <th scope=\"col\">Share</th></tr></thead>\n<tbody>"
            ),
        );
        let boxes = total.detected + total.interpolated + total.held;
        for (name, number) in [
            ("seen by the model", total.detected),
            ("filled in between two detections", total.interpolated),
            ("extended from a detection before or after", total.held),
        ] {
            let share = percent(number, boxes);
            put(html, format_args!("<tr><th scope=\"row\">{name}</th><td>{}</td><td>{share}</td></tr>", grouped(number)));
        }
        html.push_str("</tbody></table></div>\n");
    }

    fn stream_table(&self, html: &mut String) {
        put(
            html,
            format_args!(
                "<h2>Streams</h2>\n<div class=\"table\"><table>\n<thead><tr><th scope=\"col\">Stream</th><th scope=\"col\">Frames</th>\
                 <th scope=\"col\">With {}</th><th scope=\"col\">Filled in</th><th scope=\"col\">Gaps filled</th>\
                 <th scope=\"col\">Gaps open</th><th scope=\"col\">Seen once</th><th scope=\"col\">Lowest score</th></tr></thead>\n<tbody>",
                markup_escaped(&self.subject.plural)
            ),
        );
        for (number, record) in self.streams.iter().enumerate() {
            let counts = &record.counts;
            let cells = [counts.frames, counts.with_boxes, counts.filled, counts.gaps_filled, counts.gaps_open, counts.seen_once];
            let cells: String = cells.into_iter().map(|number| format!("<td>{}</td>", grouped(number))).collect();
            let name = markup_escaped(&record.info.name);
            put(
                html,
                format_args!(
                    "<tr><th scope=\"row\"><a href=\"#stream-{number}\">{name}</a></th>{cells}<td>{}</td></tr>",
                    score(counts.lowest_score)
                ),
            );
        }
        html.push_str("</tbody></table></div>\n");
    }

    fn stream(&self, html: &mut String, record: &StreamRecord) {
        let number = self.streams.iter().position(|other| std::ptr::eq(other, record)).unwrap_or(0);
        let (info, counts, plural) = (&record.info, &record.counts, markup_escaped(&self.subject.plural));
        put(html, format_args!("<section id=\"stream-{number}\">\n<h2>{}</h2>", markup_escaped(&info.source.to_string())));
        let rate = info.frame_rate.map_or_else(String::new, |rate| format!(", {} frames/s", trimmed(rate.as_f64())));
        let frames = count(counts.frames, "frame");
        put(html, format_args!("<p class=\"soft\">{} × {} pixels{rate}, {frames}.</p>", info.width, info.height));
        if let Some(reason) = &record.ended_early {
            put(html, format_args!("<p class=\"warning\"><strong>The stream ended early:</strong> {}</p>", markup_escaped(reason)));
        }
        let timeline = record.timeline.clone().coarser((MAX_BARS / self.streams.len().max(1)).max(MIN_BARS_PER_STREAM));
        let label = format!(
            "Timeline of {}: {} of {} frames have {}, {} of them with a box that was filled in.",
            info.name, counts.with_boxes, counts.frames, self.subject.plural, counts.filled
        );
        let bar = match timeline.frames_per_bin() {
            1 => "one bar per frame".to_owned(),
            frames => format!("one bar per {frames} frames, as high as their maximum"),
        };
        put(
            html,
            format_args!(
                "<figure class=\"panel\">\n{}<figcaption class=\"key\"><span><i class=\"seen\"></i>{plural} seen by the model</span>\
                 <span><i class=\"filled\"></i>filled in (also marked below the \
                 line)</span><span>{bar}</span></figcaption>\n</figure>\n</section>",
                timeline_svg(&timeline, &plural, &label)
            ),
        );
    }

    fn doubts(&self, html: &mut String) {
        put(html, format_args!("<section>\n<h2>What to check</h2>"));
        if self.doubts.is_empty() {
            put(html, format_args!("<p>Nothing: the model found no {}.</p>", markup_escaped(&self.subject.plural)));
        }
        for kind in DoubtKind::ALL {
            let of_kind: Vec<&Uncertainty> = self.doubts.iter().copied().filter(|doubt| doubt.kind == kind).collect();
            if of_kind.is_empty() {
                continue;
            }
            let (heading, help) = self.kind_in_words(kind);
            put(html, format_args!("<h3>{heading}</h3>\n<p class=\"soft\">{help}</p>\n<ol class=\"doubts\">"));
            of_kind.into_iter().for_each(|doubt| self.doubt(html, doubt));
            html.push_str("</ol>\n");
        }
        html.push_str("</section>\n");
    }

    fn kind_in_words(&self, kind: DoubtKind) -> (String, String) {
        let one = markup_escaped(&self.subject.singular);
        match kind {
            DoubtKind::OpenGap => (
                "Uncovered between covered frames".into(),
                format!("A {one} has a box before and after, and none from here on for some frames. Look at these frames first."),
            ),
            DoubtKind::FilledGap => (
                "Gaps filled in".into(),
                format!("The model missed a {one} here and found it again; the boxes between are interpolated. Longest first."),
            ),
            DoubtKind::SeenOnce => {
                ("Seen in only one frame".into(), format!("Possibly a false detection, or a {one} that the model misses elsewhere."))
            }
            DoubtKind::LowScore => ("Lowest scores".into(), "Detections with the lowest scores first.".into()),
        }
    }

    fn doubt(&self, html: &mut String, doubt: &Uncertainty) {
        let stream = self.streams.get(doubt.stream).map_or("", |record| record.info.name.as_str());
        let reason = match doubt.kind {
            DoubtKind::OpenGap => format!("no box on {} from here on", count(doubt.gap_frames, "frame")),
            DoubtKind::FilledGap => format!("filled in over {}", count(doubt.gap_frames, "frame")),
            DoubtKind::SeenOnce | DoubtKind::LowScore => format!("score {:.2}", doubt.score),
        };
        html.push_str("<li>\n");
        if let Some(picture) = &doubt.image {
            html.push_str("<div class=\"pair\">");
            let what = format!("frame {} of {stream}", doubt.frame);
            image(html, &picture.whole, &format!("Whole {what} with boxes; the {} in doubt is framed in orange", doubt.label));
            if let Some(detail) = &picture.detail {
                image(html, detail, &format!("Detail of {what} around the {} in doubt", doubt.label));
            }
            html.push_str("</div>\n");
        }
        let track = doubt.track_id.map_or_else(String::new, |id| format!(" #{id}"));
        let of_stream = if self.streams.len() > 1 { format!(" of {}", markup_escaped(stream)) } else { String::new() };
        put(
            html,
            format_args!(
                "<p class=\"where\">{} · frame {}{of_stream}</p>\n<p class=\"soft\">{}{track}, {reason}</p>\n</li>",
                clock(doubt.secs),
                doubt.frame,
                markup_escaped(&doubt.label)
            ),
        );
    }

    fn reading_guide(&self, html: &mut String) {
        let plural = markup_escaped(&self.subject.plural);
        put(
            html,
            format_args!(
                "<section>\n<h2>How to read this</h2>\n<p>The page counts what the model found. An object that it never found cannot \
                 appear here: few doubtful frames do not prove that no {plural} are left. Frames are numbered from 0. Low scores of one \
                 {} within a second count as one.</p>\n</section>",
                markup_escaped(&self.subject.singular)
            ),
        );
    }
}

fn tile(html: &mut String, value: &str, label: &str, is_emphasised: bool) {
    let class = if is_emphasised { " class=\"look\"" } else { "" };
    put(html, format_args!("<li{class}><b>{value}</b> <span>{label}</span></li>"));
}

fn image(html: &mut String, jpeg: &Jpeg, alt: &str) {
    let (width, height, data) = (jpeg.width, jpeg.height, base64(&jpeg.bytes));
    let alt = markup_escaped(alt);
    let _ =
        write!(html, "<img src=\"data:image/jpeg;base64,{data}\" width=\"{width}\" height=\"{height}\" alt=\"{alt}\" loading=\"lazy\">");
}

fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// A number with up to three decimals, without trailing zeros.
fn trimmed(number: f64) -> String {
    format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn put(html: &mut String, line: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(html, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(markup_escaped("<a href=\"x\" id='y'>&"), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;");
        assert_eq!(markup_escaped("tab\tbell\u{7}\0"), "tab\tbell\u{fffd}\u{fffd}");
    }

    #[test]
    fn times_and_numbers_are_easy_to_read() {
        assert_eq!((clock(0.0), clock(61.2345), clock(3725.5)), ("0:00.000".into(), "1:01.235".into(), "1:02:05.500".into()));
        assert_eq!((clock(-0.5), clock(59.9996)), ("-0:00.500".into(), "1:00.000".into()));
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((count(1, "frame"), count(2, "frame")), ("1 frame".into(), "2 frames".into()));
        assert_eq!((trimmed(25.0), trimmed(100.0), trimmed(30_000.0 / 1001.0)), ("25".into(), "100".into(), "29.97".into()));
        assert_eq!(percent(0, 0), "none");
    }
}
