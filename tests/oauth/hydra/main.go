// Ory Hydra as it is. It cannot be installed by its name and version alone, since its own module replaces others.
package main

import "github.com/ory/hydra/v2/cmd"

func main() {
	cmd.Execute()
}
