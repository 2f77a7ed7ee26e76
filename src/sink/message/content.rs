//! What was said or shown.

use serde::{Serialize, Serializer};

use super::part::{opaque, part};

/// What was said or shown: one of fifteen kinds.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Content {
    /// Written words.
    Texts(Vec<Text>),
    /// Spoken words.
    Speeches(Vec<Speech>),
    /// Stickers.
    Stickers(Vec<Sticker>),
    /// Pictures.
    Images(Vec<Image>),
    /// Sounds.
    Audios(Vec<Audio>),
    /// Films.
    Videos(Vec<Video>),
    /// Documents.
    Documents(Vec<Document>),
    /// Files of other kinds.
    Files(Vec<Document>),
    /// Links.
    Urls(Vec<Link>),
    /// Places.
    Locations(Vec<Location>),
    /// A button that was pressed.
    Postback(Postback),
    /// Answers that are offered.
    Suggestions(Vec<Suggestion>),
    /// Cards.
    Cards(Vec<Card>),
    /// Items side by side.
    Carousel(Items),
    /// Items one below the other.
    List(Items),
}

part! {
    /// Written words.
    Text {
        /// The words.
        text: String,
        ;
    }
}

/// Spoken words, as text, as SSML or as both.
#[derive(Clone, PartialEq, Serialize)]
#[must_use]
pub struct Speech {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssml: Option<String>,
}

impl Speech {
    /// As text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: Some(text.into()),
            ssml: None,
        }
    }

    /// As SSML.
    pub fn ssml(ssml: impl Into<String>) -> Self {
        Self {
            text: None,
            ssml: Some(ssml.into()),
        }
    }

    /// As both.
    pub fn both(text: impl Into<String>, ssml: impl Into<String>) -> Self {
        Self {
            text: Some(text.into()),
            ssml: Some(ssml.into()),
        }
    }
}

/// A sticker, by its address, its id or both.
///
/// The documentation requires "one of text, sticker_id", but a sticker has no text; its address
/// takes that place here.
#[derive(Clone, PartialEq, Serialize)]
#[must_use]
pub struct Sticker {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticker_id: Option<String>,
}

impl Sticker {
    /// By its address.
    pub fn url(url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            sticker_id: None,
        }
    }

    /// By its id.
    pub fn id(sticker_id: impl Into<String>) -> Self {
        Self {
            url: None,
            sticker_id: Some(sticker_id.into()),
        }
    }

    /// By both.
    pub fn both(url: impl Into<String>, sticker_id: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            sticker_id: Some(sticker_id.into()),
        }
    }
}

part! {
    /// A picture.
    Image {
        /// Its address.
        url: String,
        ;
        /// Its title.
        title: String,
        /// Its height, in pixels.
        height: u32,
        /// Its width, in pixels.
        width: u32,
    }
}

part! {
    /// A sound.
    Audio {
        /// Its address.
        url: String,
        ;
        /// A picture that goes with it.
        image: Image,
        /// Its title.
        title: String,
    }
}

part! {
    /// A film.
    Video {
        /// Its address.
        url: String,
        ;
        /// Its title.
        title: String,
    }
}

part! {
    /// A document or file.
    Document {
        /// Its address.
        url: String,
        ;
    }
}

part! {
    /// A link.
    Link {
        /// Where it points.
        url: String,
        ;
        /// Whether it is shown.
        is_displayed: bool,
    }
}

/// A place on earth.
#[derive(Clone, PartialEq, Serialize)]
#[must_use]
pub struct Location {
    coordinates: Coordinates,
}

#[derive(Clone, PartialEq, Serialize)]
struct Coordinates {
    #[serde(serialize_with = "finite")]
    latitude: f64,
    #[serde(serialize_with = "finite")]
    longitude: f64,
}

impl Location {
    /// In degrees, north and east positive. Must be finite numbers.
    pub fn new(latitude: f64, longitude: f64) -> Self {
        Self {
            coordinates: Coordinates {
                latitude,
                longitude,
            },
        }
    }
}

/// JSON has no word for what is not finite, and serde_json would quietly write `null`.
fn finite<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.is_finite() {
        serializer.serialize_f64(*number)
    } else {
        Err(serde::ser::Error::custom(
            "a coordinate is not a finite number",
        ))
    }
}

/// A button that was pressed, by its title, its index or both.
#[derive(Clone, PartialEq, Serialize)]
#[must_use]
pub struct Postback {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<String>,
}

impl Postback {
    /// By its title.
    pub fn title(title: impl Into<String>) -> Self {
        Self {
            title: Some(title.into()),
            index: None,
        }
    }

    /// By its index, which is a text in the documentation.
    pub fn index(index: impl Into<String>) -> Self {
        Self {
            title: None,
            index: Some(index.into()),
        }
    }

    /// By both.
    pub fn both(title: impl Into<String>, index: impl Into<String>) -> Self {
        Self {
            title: Some(title.into()),
            index: Some(index.into()),
        }
    }
}

part! {
    /// An answer that is offered.
    Suggestion {
        /// What it says.
        title: String,
        ;
    }
}

part! {
    /// A card.
    Card {
        ;
        /// Its title.
        title: String,
        /// Its subtitle.
        subtitle: String,
        /// Its text.
        text: String,
        /// Its pictures.
        images: Vec<Image>,
        /// Its sounds.
        audios: Vec<Audio>,
        /// Its films.
        videos: Vec<Video>,
        /// Its animations.
        animations: Vec<Animation>,
        /// Its buttons.
        buttons: Vec<Button>,
    }
}

part! {
    /// An animation on a card.
    Animation {
        /// Its address.
        url: String,
        ;
    }
}

part! {
    /// A button on a card.
    Button {
        ;
        /// What it says.
        title: String,
        /// Where it leads.
        url: String,
    }
}

/// The items of a carousel or list.
#[derive(Clone, PartialEq, Serialize)]
#[must_use]
pub struct Items {
    items: Vec<Item>,
}

#[derive(Clone, PartialEq, Serialize)]
struct Item {
    title: String,
}

impl Items {
    /// Items with these titles.
    pub fn new<T: Into<String>>(titles: impl IntoIterator<Item = T>) -> Self {
        let item = |title: T| Item {
            title: title.into(),
        };
        Self {
            items: titles.into_iter().map(item).collect(),
        }
    }
}

opaque!(Content, Speech, Sticker, Location, Postback, Items);
