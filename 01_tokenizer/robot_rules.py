"""What a site asks of robots in its robots.txt (RFC 9309: the Robots Exclusion Protocol).

Python's own urllib.robotparser takes the first rule that fits, and knows no wildcards; the RFC takes the longest.
"""

import fnmatch
import glob
import re
from urllib.parse import urlsplit

from web_address import escapes

LONGEST_DELAY = 86_400  # seconds: a day


class RobotRules:
    """The rules of a robots.txt for the robot of one name, and its crawl delay in seconds.

    "User-agent: *", "Disallow: /private", "Allow: /private/*.html$" -> allows("http://host/private/a.html")
    """

    def __init__(self, text, robot):
        rules, names, in_rules = {}, [], False  # name -> list of (key, value); groups of one name are one group
        for line in text.removeprefix("\ufeff").splitlines():
            key, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
            key = key.lower()
            if key == "user-agent":
                names = [] if in_rules else names
                name = re.match(r"[A-Za-z_-]+|\*?", value)
                assert name  # the pattern fits an empty text too
                names.append(name[0].lower())
                in_rules = False
                rules.setdefault(names[-1], [])
            elif key in ("allow", "disallow", "crawl-delay"):
                in_rules = True
                for name in set(names):
                    rules[name].append((key, value))
        mine = rules.get(robot.lower(), rules.get("*", []))
        self.paths = [(self.pattern(value), len(value), key == "allow") for key, value in mine
                      if key != "crawl-delay" and value]
        delays = [value for key, value in mine if key == "crawl-delay" and re.fullmatch(r"\d+(\.\d*)?|\.\d+", value)]
        self.delay = min(max(map(float, delays), default=0.0), LONGEST_DELAY)

    @staticmethod
    def pattern(value):
        """A path of robots.txt as a pattern of fnmatch, which has * too, but no $, and whose ? and [ are special."""
        value = escapes(value)
        anchored = value.endswith("$")
        pieces = (glob.escape(piece) for piece in value.removesuffix("$").split("*"))
        return "*".join(pieces) + ("" if anchored else "*")

    def allows(self, url):
        """The longest rule that fits decides; between equals, the one that allows (section 2.2.2)."""
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        fitting = [(length, allowed) for pattern, length, allowed in self.paths if fnmatch.fnmatchcase(path, pattern)]
        return max(fitting, default=(0, True))[1]
