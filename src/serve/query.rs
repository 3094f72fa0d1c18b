//! Query strings (`application/x-www-form-urlencoded`).

use std::borrow::Cow;

/// Pairs in order, decoded; what is not UTF-8 comes out with U+FFFD.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
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
    }
}
