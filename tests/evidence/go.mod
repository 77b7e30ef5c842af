// SPDX-License-Identifier: Apache-2.0
module evidence

go 1.19

require golang.org/x/mod v0.7.0
