"""Statements that connections plan once."""

from chassis.readings import Reading, reading


def test_values_become_numbers_by_name_and_are_given_once() -> None:
    one = Reading("SELECT a FROM t WHERE b = %(b)s AND c = %(c)s AND d > %(b)s")
    handle = one.execute.split(b" ")[1]
    prepare = b"PREPARE " + handle + b" AS SELECT a FROM t WHERE b = $1 AND c = $2 AND d > $1"
    assert one.prepare == {handle.decode(): prepare}
    assert one.execute == b"EXECUTE " + handle + b" (%(b)s, %(c)s)"


def test_each_statement_has_its_own_handle_and_only_its_own_values() -> None:
    two = Reading("SELECT 1;\nSELECT %(x)s\n;\n")
    first, second = two.prepare.values()
    assert first.endswith(b"AS SELECT 1")
    assert second.endswith(b"AS SELECT $1")
    assert two.execute.split(b";")[0].startswith(b"EXECUTE reading_")
    assert two.execute.count(b"%(x)s") == 1


def test_a_text_has_one_handle_wherever_it_is_asked() -> None:
    assert Reading("SELECT 1").execute == Reading("SELECT 1").execute
    assert Reading("SELECT 1").execute != Reading("SELECT 2").execute
    assert reading("SELECT 1") is reading("SELECT 1")
