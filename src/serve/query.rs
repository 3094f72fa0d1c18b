//! Query strings (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

/// Pairs in order, decoded; what is not UTF-8 comes out with U+FFFD.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

/// The last value given for a name.
pub(super) fn get<'q>(query: &'q str, name: &str) -> Option<Cow<'q, str>> {
    pairs(query).filter(|(n, _)| n == name).map(|(_, v)| v).last()
}

/// For a value in a query string.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(b)),
            b => {
                out.push('%');
                out.extend([b >> 4, b & 15].map(|n| char::from(b"0123456789ABCDEF"[usize::from(n)])));
            }
        }
    }
    out
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        let digit = |i: usize| char::from(*after.get(i)?).to_digit(16);
        match (b, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                rest = &after[2..];
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(b),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded() {
        let all: Vec<_> = pairs("collect[]=cpu&collect%5B%5D=memory&q=a+b%26c&&flag&bad=%zz%4&utf=%ff").collect();
        let all: Vec<_> = all.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        let expected = [
            ("collect[]", "cpu"),
            ("collect[]", "memory"),
            ("q", "a b&c"),
            ("flag", ""),
            ("bad", "%zz%4"),
            ("utf", "\u{fffd}"),
        ];
        assert_eq!(all, expected);
        assert_eq!(get("a=1&a=2", "a").as_deref(), Some("2"));
        assert_eq!(get("a=1", "b"), None);
    }

    #[test]
    fn what_is_encoded_comes_back() {
        let text = "a b&c=d/é\"<%>\u{1f980}\n";
        assert_eq!(decode(&encode(text)), text);
        assert!(encode(text).bytes().all(|b| b.is_ascii_graphic() && !b"\"<>&=".contains(&b)));
    }
}
