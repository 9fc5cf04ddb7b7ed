"""What of an Asterisk's documentation stays, and that it is made again when there is another."""

import os
from pathlib import Path
from xml.etree import ElementTree

from bridge.testing.asterisk_documentation import short_documentation

WHOLE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE docs SYSTEM "appdocsxml.dtd">
<docs xmlns:xi="http://www.w3.org/2001/XInclude">
  <application name="Answer" language="en_US"><synopsis>Answer a channel.</synopsis></application>
  <configInfo name="res_pjsip" language="en_US">
    <configFile name="pjsip.conf"><configObject name="endpoint">
      <configOption name="allow"><synopsis>Codecs: µ-law</synopsis></configOption>
      <xi:include xpointer="xpointer(/docs/configInfo[@name='another']/note)"/>
      <xi:include xpointer="xpointer(/docs/application[@name='Answer']/synopsis)"/>
    </configObject></configFile>
  </configInfo>
</docs>
"""


def data_folder(folder: Path) -> Path:
    (folder / "documentation").mkdir(parents=True)
    (folder / "documentation" / "core-en_US.xml").write_text(WHOLE)
    (folder / "documentation" / "appdocsxml.dtd").touch()
    (folder / "sounds").mkdir()
    return folder


def quiet(line: str) -> None:
    raise AssertionError(line)


def test_given_a_data_folder_then_the_configuration_is_described_and_the_rest_is_where_it_was(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data")
    short = short_documentation(data, tmp_path / "cache", quiet)
    docs = ElementTree.parse(short / "documentation" / "core-en_US.xml").getroot()
    assert [part.get("name") for part in docs] == ["res_pjsip"]
    assert [option.findtext("synopsis") for option in docs.iter("configOption")] == ["Codecs: µ-law"]
    pointers = [element.get("xpointer", "") for element in docs.iter() if element.tag.endswith("include")]
    assert pointers == ["xpointer(/docs/configInfo[@name='another']/note)"], "none to what has gone"
    assert (short / "sounds").resolve() == data / "sounds"
    assert (short / "documentation" / "appdocsxml.dtd").resolve() == data / "documentation" / "appdocsxml.dtd"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [short.name, "asterisk-data.lock"]


def test_given_the_same_then_it_is_made_once_and_for_another_version_anew(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data")
    first = short_documentation(data, tmp_path / "cache", quiet)
    assert short_documentation(data, tmp_path / "cache", quiet) == first
    os.utime(data / "documentation" / "core-en_US.xml", (1, 1))
    assert short_documentation(data, tmp_path / "cache", quiet) != first
