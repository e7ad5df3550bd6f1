"""Ollama: Go templates that write what the models' own templates write, or a refusal; and the Modelfile around them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from burnish.data.dialog import Frame
from burnish.errors import ModelError
from burnish.export import Choices, export
from burnish.export.go_template import execute, ollama_prompt
from burnish.export.ollama import samples, template_of
from burnish.export.ollama_template import differing, shape_of
from exports import CHATML, GEMMA_TEMPLATE, LAST_SYSTEM, LLAMA3, MISTRAL, network_folder, subject, tasks
from stub import stub_tokenizer

# ------------------------------------------------------------------------------------------------------------ Go's template language

VALUES = {
    "System": "be brief",
    "Empty": "",
    "None": [],
    "N": 3,
    "Messages": [{"Role": "user", "Content": "a"}, {"Role": "assistant", "Content": "b {{ c"}],
}
CASES = [
    ("plain {{ .System }} text", "plain be brief text"),
    ("a {{- .System -}} b", "abe briefb"),
    ("a {{ .System -}}\n\n b", "a be briefb"),
    ("{{ if .Empty }}x{{ else }}y{{ end }}", "y"),
    ("{{ if .Empty }}x{{ else if .System }}z{{ else }}y{{ end }}!", "z!"),
    ("{{ if and .System (not .Empty) }}x{{ end }}", "x"),
    ("{{ if or .Empty .System }}x{{ end }}", "x"),
    ('{{ if eq .System "be brief" }}x{{ end }}', "x"),
    ('{{ if eq .System "no" "be brief" }}x{{ end }}', "x"),
    ('{{ if ne .N 3 }}x{{ else }}"{{ "q\\"\\n" }}"{{ end }}', '"q"\n"'),
    ("{{ range .Messages }}[{{ .Role }}:{{ .Content }}]{{ end }}", "[user:a][assistant:b {{ c]"),
    ("{{ range $i, $m := .Messages }}{{ $i }}{{ $m.Role }}{{ $.System }}{{ end }}", "0userbe brief1assistantbe brief"),
    ("{{ range $i, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}{{ if $last }}L{{ end }}{{ end }}", "L"),
    ("{{ range .None }}x{{ else }}none{{ end }}", "none"),
    ("{{ $x := `raw` }}{{ $x }}{{/* said to nobody */}}", "raw"),
    ('{{ "{{" }} {{ len .Messages }}', "{{ 2"),
]
REFUSED = [
    "{{ if .System }}no end",
    "{{ end }}",
    "{{ .System | printf }}",
    "{{ unknown .System }}",
    "{{ $no }}",
    "{{ ( .System }}",
    "{{ range .System }}{{ end }}",
]


@pytest.mark.parametrize(("template", "expected"), CASES)
def test_templates_write_what_go_writes(template: str, expected: str) -> None:
    assert execute(template, VALUES) == expected


@pytest.mark.parametrize("template", REFUSED)
def test_what_is_not_known_of_go_is_refused_and_never_guessed(template: str) -> None:
    with pytest.raises(ModelError, match="the Go template"):
        execute(template, VALUES)


GO = """package main
import ("encoding/json"; "os"; "text/template")
func main() {
  var cases []struct{ Template string; Values map[string]any }
  if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil { panic(err) }
  var out []string
  for _, one := range cases {
    file, _ := os.CreateTemp("", "t"); parsed := template.Must(template.New("").Parse(one.Template))
    if err := parsed.Execute(file, one.Values); err != nil { panic(err) }
    text, _ := os.ReadFile(file.Name()); out = append(out, string(text)); os.Remove(file.Name())
  }
  json.NewEncoder(os.Stdout).Encode(out)
}
"""


@pytest.mark.slow
def test_go_itself_writes_the_same(tmp_path: Path) -> None:
    """Pain 4: an Ollama template that is wrong: our reading of the language and of every family's template, against Go's own."""
    import json

    if shutil.which("go") is None:
        pytest.skip("there is no go on the PATH to compare with")
    asked = [{"Template": text, "Values": VALUES} for text, _ in CASES if ".N " not in text]
    wanted = [execute(one["Template"], VALUES) for one in asked]
    for name in FAMILIES:
        one = family(name, tmp_path / name.replace(" ", "-"))
        template = template_of(one)
        for dialog in samples(one)[0]:
            joined = [{"Role": role, "Content": text} for role, text in dialog]
            system = "\n\n".join(text for role, text in dialog if role == "system")
            asked.append({"Template": template, "Values": {"Messages": joined, "System": system}})
            wanted.append(ollama_prompt(template, dialog))
    (tmp_path / "main.go").write_text(GO)
    done = subprocess.run(
        ["go", "run", "main.go"], cwd=tmp_path, input=json.dumps(asked), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wanted


# ----------------------------------------------------------------------------------------------------------------- chat templates

FAMILIES = {
    "chatml with a system message of its own": CHATML,
    "llama 3": LLAMA3,
    "gemma, the system message inside the first question": GEMMA_TEMPLATE,
    "mistral without system messages": MISTRAL,
    "plain": None,
}


def family(name: str, folder: Path, frame: Frame | None = None) -> Any:
    tokenizer = stub_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>", "<|eot_id|>", "<end_of_turn>"]})
    rows = tasks(3, system=None if frame is None else frame.system)
    return subject(network_folder(folder, tokenizer=tokenizer, template=FAMILIES[name]), frame=frame, rows=rows)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_template_of_each_family_is_written_byte_for_byte(name: str, tmp_path: Path) -> None:
    """Pain 4 and pain 7: an Ollama model answers with a wrong template: it writes what the model's own writes, in every dialog."""
    one = family(name, tmp_path / "network")
    template = template_of(one)
    asked, wanted = samples(one)
    assert len(asked) >= (5 if "mistral" in name else 9)
    start = "" if name.startswith("chatml") else "<|bos|>"
    assert differing(template, asked, wanted, start=start) == []
    assert "<|bos|>" not in template, "the runtime writes the start token, and would write it twice"
    spoiled = template.replace("{{ $m.Content }}", " {{ $m.Content }}", 1)
    assert len(differing(spoiled, asked, wanted, start=start)) == len(asked)


def test_a_template_of_another_shape_is_refused_with_another_way(tmp_path: Path) -> None:
    """Pain 4: a template that cannot be said in Go is refused, and nothing is written."""
    one = subject(network_folder(tmp_path / "network", template=LAST_SYSTEM), rows=tasks(2))
    with pytest.raises(ModelError, match=r"cannot be exported for Ollama: .*llama-server --jinja takes the model's own template"):
        export(one, "ollama", Choices(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("render", "reason"),
    [
        (lambda messages, answers: "".join(text for _, text in messages[-1:]), "leaves out, repeats or moves"),
        (lambda messages, answers: "".join(text * 2 for _, text in messages), "leaves out, repeats or moves"),
        (lambda messages, answers: f"{len(messages)}" + "".join(text for _, text in messages), "otherwise once more was said"),
    ],
)
def test_shapes_that_cannot_be_read_are_told_apart(render: Any, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        shape_of(render)


# ------------------------------------------------------------------------------------------------------------------- the Modelfile


def test_the_modelfile_carries_what_the_run_put_around_questions(tmp_path: Path) -> None:
    """Pain 3: worse when served (no system message, bare questions): a question sent bare becomes the prompt that was taught."""
    frame = Frame(system='Sort "mails".', prompt="Mail {{urgent}}: {text}\nTeam?")
    one = family("llama 3", tmp_path / "network", frame)
    object.__setattr__(one.model.found, "settings", {"system": frame.system, "prompt": frame.prompt, "max_tokens": 12})
    made = export(one, "ollama", Choices(tmp_path / "out", bits="Q8_0"))
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert "FROM ./network-Q8_0.gguf\n" in text and (tmp_path / "out" / "network-Q8_0.gguf").is_file()
    assert 'SYSTEM """Sort "mails"."""' in text
    assert 'PARAMETER stop "<|eos|>"' in text and 'PARAMETER stop "<|eot_id|>"' in text and "PARAMETER num_predict 12" in text
    assert made["stops"] == re.findall(r'PARAMETER stop "(.*)"', text)
    template = text.split('TEMPLATE """', 1)[1].split('"""', 1)[0]
    said = "<|bos|>" + ollama_prompt(template, [("system", 'Sort "mails".'), ("user", "lost card")])
    task = one.renderer.frame.ask("lost card")
    assert said == (
        '<|bos|><|start_header_id|>system<|end_header_id|>\n\nSort "mails".<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n'
        f"{task}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert task == "Mail {urgent}: lost card\nTeam?"
    assert made["checks"][-1]["step"] == "Ollama template" and made["checks"][-1]["n"] >= 9


def test_tools_that_were_taught_are_refused(tmp_path: Path) -> None:
    import dataclasses

    rows = tuple(dataclasses.replace(task, tools=({"name": "look"},)) for task in tasks(2))
    with pytest.raises(ModelError, match="taught calls of tools"):
        export(subject(network_folder(tmp_path / "network"), rows=rows), "ollama", Choices(tmp_path / "out"))
