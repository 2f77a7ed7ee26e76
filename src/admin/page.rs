//! The page itself: files that are part of the program.

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::get;
use hyper::header::CONTENT_TYPE;

/// Path, kind and content of each file.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page.css"),
    ),
    ("/page.js", SCRIPT, include_str!("page.js")),
    ("/text.js", SCRIPT, include_str!("text.js")),
    ("/charts.js", SCRIPT, include_str!("charts.js")),
    ("/letters.js", SCRIPT, include_str!("letters.js")),
    ("/fleet.js", SCRIPT, include_str!("fleet.js")),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |routes, file| {
        let (path, kind, content) = file;
        let give = async move || ([(CONTENT_TYPE, kind)], content).into_response();
        routes.route(path, get(give))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes from outside can only be text: none of what would make markup of it is used.
    #[test]
    fn nothing_is_made_markup_and_nothing_is_fetched_from_elsewhere() {
        for (path, _, content) in FILES {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "createContextualFragment",
                "eval(",
                "new Function",
                "setAttribute('on",
                "setAttribute(\"on",
                "srcdoc",
                "javascript:",
                "@import",
                "https://",
                "<style",
                " style=",
                " onclick",
            ] {
                assert!(!content.contains(word), "{word} in {path}");
            }
            let outside = content.replace("http://www.w3.org/2000/svg", "");
            assert!(!outside.contains("http://"), "{path}");
        }
    }
}
