"""What of a shell's text is refused when a tools file is read, and what isn't."""

from pathlib import Path

import pytest

from tests.tools_files import load, refused_tool, shell

from jobrunner.tools.gantz import load_tools  # isort: skip  # it needs what the line above skips for

REFUSED = {
    "echo `ls {{x}}`": "inside of backticks",
    'echo "`ls {{x}}`"': "inside of backticks",
    "echo \\{{x}}": "behind a backslash",
    'echo "\\{{x}}"': "behind a backslash",
    "echo ${{x}}": "behind a $",
    "echo ${A:-{{x}}}": "inside of ${...}",
    'echo "${A:-"{{x}}"}"': "inside of ${...}",
    "echo $'{{x}}'": "inside of $'...'",
    "echo $((1 + {{x}}))": "is computed with",
    "((a = {{x}}))": "is computed with",
    "for ((i = 0; i < {{x}}; i++)); do :; done": "is computed with",
    'if (( $(echo "{{x}} > 1" | bc) )); then :; fi': "is computed with",
    "echo $[{{x}} + 1]": "$[...] is computed with",
    '[[ "{{x}}" -eq 1 ]]': "is compared as a number",
    '[ "{{x}}" -gt 1 ]': "is compared as a number",
    '[ -v "{{x}}" ]': "is compared as a number",
    "{{x}} now": "chooses the program",
    "echo a; {{x}}": "chooses the program",
    "echo a | {{x}}": "chooses the program",
    "if {{x}}; then :; fi": "chooses the program",
    "! {{x}}": "chooses the program",
    "A=1 {{x}}": "chooses the program",
    "./bin/{{x}}.sh": "chooses the program",
    "$(which {{x}}) -v": "chooses the program",
    "c='{{x}}'; $c": "chooses the program",
    "sudo -n {{x}}": "chooses the program",
    "sudo -u bob {{x}}": "chooses the program",
    "time -p {{x}}": "chooses the program",
    "exec -a name {{x}}": "chooses the program",
    "sudo -u bob env A=1 {{x}}": "chooses the program",
    "timeout -k 1 5 {{x}}": "chooses the program",
    "timeout 5 {{x}}": "chooses the program",
    "env A=1 {{x}}": "chooses the program",
    "xargs {{x}}": "chooses the program",
    "find . -exec {{x}} ;": "chooses the program",
    "a=({{x}})": "chooses the program",
    "eval echo {{x}}": "in code for eval",
    "trap 'echo {{x}}' EXIT": "in code for trap",
    ". {{x}}": "in code for .",
    "declare {{x}}": "in code for declare",
    "printf -v {{x}} a": "in code for printf",
    "export {{x}}": "takes names",
    "local -i a={{x}}": "takes names",
    "for {{x}} in a; do :; done": "name a variable",
    "PATH={{x}} ls": "PATH",
    "export LD_PRELOAD={{x}}": "LD_PRELOAD",
    "PS4='{{x}}'; set -x": "PS4",
    "echo a >&{{x}}": "chooses a descriptor",
    "sh -c 'echo {{x}}'": "in code for sh",
    'bash -lc "echo {{x}}"': "in code for bash",
    "v={{x}}; sh -c \"echo $v\"": "in code for sh",
    "for i in {{x}}; do sh -c \"$i\"; done": "in code for sh",
    "echo {{x}} | while read l; do eval \"$l\"; done": "in code for eval",
    "f() { eval \"$1\"; }; f {{x}}": "in code for eval",
    'sh -c "$(echo {{x}})"': "in code for sh",
    "sudo sh -c 'echo {{x}}'": "in code for",
    "python3 -c \"print('{{x}}')\"": "in code for python3",
    "node -e '{{x}}'": "in code for node",
    "awk '/{{x}}/ {print}' f": "in code for awk",
    "awk -F : -v a=1 '{{x}}' f": "in code for awk",
    "sed 's/a/{{x}}/' f": "in code for sed",
    "sed -n -e 's/a/{{x}}/' f": "in code for sed",
    "jq --arg a b '.{{x}}' f": "in code for jq",
    "ssh host ls {{x}}": "in code for ssh",
    "psql db -c 'SELECT {{x}}'": "in code for psql",
    "psql -Atc 'SELECT {{x}}'": "in code for psql",
    "mysql -e'SELECT {{x}}'": "in code for mysql",
    "jq --indent 2 '.{{x}}' f": "in code for jq",
    "sed -i '' 's/a/{{x}}/' f": "in code for sed",
    "ssh -o ProxyCommand={{x}} host": "in code for ssh",
    "ssh -o A=b host ls {{x}}": "in code for ssh",
    "tar --checkpoint-action={{x}} -cf a b": "in code for tar",
    "echo {{x}} | xargs -I% sh -c 'echo %'": "where xargs puts it",
    "n={{x}}; echo $((n + 1))": "computed with",
    "n={{x}}; m=$n; echo $(($m + 1))": "computed with",
    "n={{x}}; ((n++))": "computed with",
    "n={{x}}; let n+=1": "computed with",
    "n={{x}}; [[ $n -gt 1 ]]": "computed with",
    "n={{x}}; [[ n -gt 1 ]]": "computed with",
    "n={{x}}; echo ${a[n]}": "computed with",
    "n={{x}}; echo ${a:n:1}": "computed with",
    "for n in {{x}}; do echo $((n)); done": "computed with",
    "read n <<< {{x}}; echo $((n))": "computed with",
    "f() { echo $(($1 + 1)); }; f {{x}}": "computed with",
    "declare -i n; n={{x}}": "may be computed with",
    "psql --command='SELECT {{x}}'": "in code for psql",
    "sqlite3 db 'SELECT {{x}}'": "in code for sqlite3",
    "watch ls {{x}}": "in code for watch",
    "echo {{x}} | sh": "code that sh reads",
    "echo {{x}} | python3 -": "code that python3 reads",
    "echo {{x}} | bash -s": "code that bash reads",
    "psql db < {{x}}": "code that psql reads",
    "bash <<EOF\necho {{x}}\nEOF": "code that bash reads",
    "bash <<< {{x}}": "code that bash reads",
    "echo {{x}} | sh 3< f": "code that sh reads",
    "echo a 2>&{{x}}": "chooses a descriptor",
    "[[ a < b && ( {{x}} -eq 1 ) ]]": "is compared as a number",
    "awk -- '{{x}}' f": "in code for awk",
    "eval {{x}}": "in code for eval",
    "echo {{x}} <<EOF": "has no end",
    "git log -{{x}}": "choose an option",
    "cat <<EOF\n`ls {{x}}`\nEOF": "inside of backticks",
    "cat <<'E F'\n{{x}}\nE F": "isn't a plain word",
    "cat <<EOF\n{{x}}": "has no end",
    "echo '{{x}}": "has no end",
    "echo $(ls {{x}}": "isn't closed",
    "echo $(case {{x}} in a) ;; esac)": "can't be followed",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_p7_what_no_quoting_makes_safe_is_refused_when_the_file_is_read(
    text: str, tmp_path: Path
) -> None:
    """P7: its author is told where, and no caller ever gets there."""
    problems = refused_tool(tmp_path, shell(text))
    assert REFUSED[text] in problems[0]


ACCEPTED = [
    "sh -c 'echo \"$1\"' _ {{x}}",
    "python3 script.py --to {{x}}",
    "python3 -m tool {{x}}",
    "awk -v a={{x}} '{print a}' f",
    "jq --arg f {{x}} '.[$f]' f",
    "psql -v id={{x}} -f query.sql",
    "echo {{x}} | jq -r .name",
    "curl -s {{x}} | python3 -c 'import sys; print(sys.stdin.read())'",
    "sudo -n ls -- {{x}}",
    "timeout 5 ls {{x}}",
    "sudo -u bob ls {{x}}",
    "xargs -0 -n1 rm -- {{x}}",
    "jq --raw-output .a {{x}}",
    "GITHUB_REPO={{x}} LINES={{x}} make -- {{x}}",
    "tar -cf a.tar -- {{x}}",
    "git log --grep={{x}}",
    "psql -Atc 'SELECT 1' -- {{x}}",
    "time ls {{x}}",
    'n=1; v={{x}}; echo $((n + 1)) ${v:-none} "$v"',
    'echo "${A:-it\'s}" {{x}}',
    "cat <<EOF\n\\$5 {{x}} $HOME\nEOF",
    "cat 0<<EOF {{x}}\na\nEOF",
    "docker ps --format '{{.Names}}' --filter {{x}}",
    "docker inspect -f '{{range .X}}{{.Y}}{{end}}' {{x}}",
    "[ -n {{x}} ] && ls {{x}}",
    "case {{x}} in a) ls ;; b | c) echo ;; esac",
    "cmd=ls; $cmd {{x}}",
    "echo \"${#A} ${A%%/*} ${A:-'q'}\" {{x}}",
    "echo $# $? $$ {{x}} | tee >(cat) > /dev/null",
    'v=`date`; echo "$v" {{x}}',
    "echo $'a\\'b' {{x}}",
    "a=$(( (1+2) * 3 )); ls {{x}}",
    "sort < {{x}} > {{x}}.out 2>&1",
    "((a = 1)); ls {{x}}",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_is_safe_is_no_problem(text: str, tmp_path: Path) -> None:
    """A file that works today should work unchanged."""
    assert load(tmp_path, shell(text)).tools[0].name == "t"


def test_a_problem_names_its_line_in_the_file(tmp_path: Path) -> None:
    """Lines of a block are the file's own lines."""
    block = "tools:\n- name: t\n  parameters: [{name: x}]\n  script:\n    shell: |\n      ls\n"
    path = tmp_path / "gantz.yaml"
    path.write_text(f"{block}      eval {{{{x}}}}\n")
    with pytest.raises(ValueError, match=r"gantz\.yaml:7: \{\{x\}\} stands in code for eval"):
        load_tools(path)
